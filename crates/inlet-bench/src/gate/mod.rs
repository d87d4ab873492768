//! The regression gate of CI: fails when the lookup program or the image compiler gets clearly worse.
//!
//! Nothing here is a time: program sizes, image sizes, and a ratio of two searches on the same machine.

mod features;
mod limits;

use inlet::rules::Builder;
use inlet::rules::image::{self, Header};

use crate::Result;
use crate::args::LookupArgs;
use crate::budget::Budget;
use crate::gate::features::FEATURES;
use crate::gate::limits::{IMAGE_SLACK, IMAGES, PROGRAM_SLACK, PROGRAMS, RATIOS};
use crate::lookup::Bench;
use crate::rules::{self, Families, RuleSet};
use crate::table;

/// How often a ratio is measured before it fails: a machine that is busy disturbs it.
const ATTEMPTS: usize = 3;

/// A figure that must not be above its limit.
#[derive(Debug)]
struct Check {
    /// What it is a figure of.
    name: String,
    figure: &'static str,
    measured: f64,
    limit: f64,
    /// Digits after the point.
    digits: usize,
}

impl Check {
    fn new(name: &str, figure: &'static str, measured: f64, limit: f64, digits: usize) -> Self {
        Self { name: name.to_owned(), figure, measured, limit, digits }
    }

    /// What is not a number does not hold.
    fn holds(&self) -> bool {
        self.measured <= self.limit
    }

    fn failure(&self) -> Option<String> {
        let Self { name, figure, measured, limit, digits } = self;
        let line = || format!("{name}, {figure}: measured {measured:.digits$}, limit {limit:.digits$}");
        (!self.holds()).then(line)
    }

    fn cell(&self) -> String {
        let Self { measured, limit, digits, .. } = self;
        let mark = if self.holds() { "" } else { "FAILED " };
        format!("{mark}{measured:.digits$} / {limit:.digits$}")
    }
}

/// Runs all checks, prints them, and gives one line for each that failed.
pub(crate) fn run() -> Result<Vec<String>> {
    let args = LookupArgs { cold_keys: 0, alone_keys: 0, displace: 0.0, rounds: 9, ..LookupArgs::all() };
    let mut bench = Bench::new(&args)?;
    let checks = [programs(&mut bench)?, ratios(&mut bench)?, images()?];
    let titles = ["Program", "Search against the LPM trie, hot", "Image"];
    for (title, checks) in titles.into_iter().zip(&checks) {
        print(title, checks)?;
    }
    Ok(checks.iter().flatten().filter_map(Check::failure).collect())
}

fn programs(bench: &mut Bench<'_>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (feature, (name, verified, jit)) in FEATURES.iter().zip(PROGRAMS) {
        assert_eq!(feature.name, name, "the features and their limits are in one order");
        table::progress(format_args!("gate: program for {name}"));
        let header = header(feature.fill)?;
        if !(feature.needed)(&header) {
            return Err(format!("the ruleset {name:?} does not need what it is there for: {header:?}").into());
        }
        let program = bench.program_for(feature.fill)?;
        let mut check = |figure, measured: u32, usual: u32| {
            checks.push(Check::new(name, figure, measured.into(), (f64::from(usual) * PROGRAM_SLACK).round(), 0));
        };
        check("verified instructions", program.verified_instructions, verified);
        // Other processors have other machine code.
        if cfg!(target_arch = "x86_64") {
            check("JIT bytes", program.jit_bytes, jit);
        }
    }
    Ok(checks)
}

/// The header of the image of a ruleset, as if all its interfaces existed.
fn header(fill: impl FnOnce(&mut Builder) -> Result<()>) -> Result<Header> {
    let mut builder = Builder::new();
    fill(&mut builder)?;
    builder.resolve_interfaces(|_| 1);
    let ruleset = builder.finish()?;
    Ok(*image::compile(&ruleset)?.header())
}

fn ratios(bench: &mut Bench<'_>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (rules, limit) in RATIOS {
        let set = rules::mix(rules, Families::Both);
        let measure = |_| -> Result<f64> { Ok(bench.measure(&set, Budget::thorough())?.hot.search_ratio) };
        let mut lowest = f64::INFINITY;
        for measured in (0..ATTEMPTS).map(measure) {
            // A search that seems to cost nothing was not measured.
            lowest = Some(measured?).filter(|ratio| *ratio > 0.0).map_or(lowest, |ratio| lowest.min(ratio));
            if lowest <= limit {
                break;
            }
        }
        checks.push(Check::new(&set.name, "ratio", lowest, limit, 3));
    }
    Ok(checks)
}

fn images() -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (set, limits) in sets().into_iter().zip(IMAGES) {
        assert_eq!(set.name, limits.name, "the rulesets and their limits are in one order");
        table::progress(format_args!("gate: image of {}", set.name));
        let header = header(|builder| set.fill(builder))?;
        let bytes = f64::from(header.words) * 4.0 / set.rules.len() as f64;
        checks.push(Check::new(limits.name, "bytes a rule", bytes, limits.bytes * IMAGE_SLACK, 1));
        let measured = [header.v4.more, header.v6.more, header.levels];
        let allowed = [limits.more[0].into(), limits.more[1].into(), limits.levels];
        let figures = ["more IPv4", "more IPv6", "levels"];
        for ((figure, measured), limit) in figures.into_iter().zip(measured).zip(allowed) {
            checks.push(Check::new(limits.name, figure, measured.into(), limit.into(), 0));
        }
        checks.push(Check::new(limits.name, "bisects", header.bisect.into(), u32::from(limits.bisect).into(), 0));
    }
    Ok(checks)
}

/// The rulesets in the order of their limits.
fn sets() -> [RuleSet; 7] {
    const SIZE: usize = 100_000;
    [
        rules::mix(SIZE, Families::Both),
        rules::hosts(SIZE),
        rules::nested(SIZE),
        rules::ranges(SIZE / 10),
        rules::one_net(SIZE),
        rules::one_net6(SIZE, false),
        rules::one_net6(SIZE, true),
    ]
}

/// One row for each name, one column for each figure.
fn print(title: &str, checks: &[Check]) -> Result<()> {
    let rows: Vec<&[Check]> = checks.chunk_by(|a, b| a.name == b.name).collect();
    let head: Vec<&str> = ["measured / at most"].into_iter().chain(rows[0].iter().map(|check| check.figure)).collect();
    let row = |row: &&[Check]| [row[0].name.clone()].into_iter().chain(row.iter().map(Check::cell)).collect();
    Ok(table::print(title, &head, &rows.iter().map(row).collect::<Vec<_>>())?)
}
