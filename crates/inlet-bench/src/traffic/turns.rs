//! One host in several states in turn, and the rates of each kind of work in each of them. What else the machine does is
//! noisier than what is to be seen, so what counts is the ratio to the first state of the same round.

use serde::Serialize;

use crate::budget::Budget;
use crate::stats::{median, middle_half};
use crate::{Result, table};

/// Rates by state, kind of work and round.
pub(super) struct Turns(Vec<Vec<Vec<f64>>>);

/// What one kind of work is in one state, against the first one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// A second, in the first state and in this one.
    pub(crate) without: f64,
    pub(crate) with: f64,
    /// The median of the ratios round by round, and where their middle half lies.
    pub(crate) ratio: f64,
    pub(crate) middle_half: [f64; 2],
    pub(crate) rounds: usize,
}

impl Turns {
    /// Takes up to so many rounds of all states, each time with all kinds of work. The first round warms up.
    pub(super) fn take(
        (states, kinds, rounds): (usize, usize, usize),
        time: Budget<'_>,
        mut enter: impl FnMut(usize) -> Result<()>,
        mut work: impl FnMut(usize) -> Result<f64>,
    ) -> Result<Self> {
        let mut rates = vec![vec![Vec::new(); kinds]; states];
        time.samples(2, rounds + 1, |round| {
            for turn in 0..states {
                let state = (round + turn) % states;
                enter(state)?;
                for (kind, rates) in rates[state].iter_mut().enumerate() {
                    let rate = work(kind)?;
                    if round > 0 {
                        rates.push(rate);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self(rates))
    }

    /// One kind of work in one state against another one.
    pub(super) fn row(&self, what: &str, kind: usize, [without, with]: [usize; 2]) -> Row {
        let [without, with] = [without, with].map(|state| &self.0[state][kind]);
        let ratios: Vec<f64> = without.iter().zip(with).map(|(without, with)| with / without).collect();
        let middle = |rates: &[f64]| median(rates.iter().copied());
        Row {
            what: what.to_owned(),
            without: middle(without),
            with: middle(with),
            ratio: middle(&ratios),
            middle_half: middle_half(&ratios),
            rounds: ratios.len(),
        }
    }
}

/// Prints rows.
pub(super) fn print(title: &str, rows: &[Row]) -> Result<()> {
    let line = |row: &Row| {
        let [low, high] = row.middle_half;
        let ratio = format!("{:.3} [{low:.3} {high:.3}]", row.ratio);
        vec![row.what.clone(), format!("{:.0}", row.without), format!("{:.0}", row.with), ratio, row.rounds.to_string()]
    };
    let head = ["a second", "without", "with", "round by round", "n"];
    table::print(title, &head, &rows.iter().map(line).collect::<Vec<_>>())?;
    Ok(())
}
