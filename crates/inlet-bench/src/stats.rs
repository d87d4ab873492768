//! Medians and spreads.

use serde::Serialize;

/// The middle of some numbers; of an even count the mean of the two in the middle.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A median with the smallest and the largest.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let fold = |pick: fn(f64, f64) -> f64| numbers.iter().copied().fold(f64::NAN, pick);
        Self { median: median(numbers.iter().copied()), min: fold(f64::min), max: fold(f64::max) }
    }
}
