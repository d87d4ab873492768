//! What a lookup costs, by test runs: a program that does nothing, the trie, and Inlet's program in force.

mod measure;
mod print;

use serde::Serialize;

pub(crate) use self::measure::Bench;
use self::print::print;
use crate::Result;
use crate::args::{Cli, LookupArgs};
use crate::budget::Budget;
use crate::raw::ProgramInfo;
use crate::rules::{self, Families, RuleSet};
use crate::stats::{median, middle_half};
use crate::table;

/// The programs in the order of all arrays here: empty, trie, Inlet, and what both pay for giving.
const PROGRAMS: usize = 4;

/// Nanoseconds of each sample, by program.
type Times = [Vec<f64>; PROGRAMS];

/// Nanoseconds above the program that does nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) floor: f64,
    pub(crate) lpm: f64,
    pub(crate) inlet: f64,
    /// The part of both that no search can save: to give a packet to a socket.
    pub(crate) give: f64,
    /// Inlet against the trie.
    pub(crate) ratio: f64,
    /// The same of the searches alone, without what both pay to give.
    pub(crate) search_ratio: f64,
    /// How many samples of each program the medians are of.
    pub(crate) samples: usize,
    /// Where the middle half of the samples lies, of the trie and of Inlet.
    pub(crate) lpm_spread: [f64; 2],
    pub(crate) inlet_spread: [f64; 2],
}

impl Cost {
    /// Of the times of the programs.
    fn of(times: Times) -> Self {
        let [_, lpm_spread, inlet_spread, _] = times.each_ref().map(|times| middle_half(times));
        let samples = times[0].len();
        let [floor, lpm, inlet, give] = times.map(median);
        let above = |spread: [f64; 2]| spread.map(|end| end - floor);
        let (lpm, inlet, give) = (lpm - floor, inlet - floor, give - floor);
        Self {
            floor,
            lpm,
            inlet,
            give,
            ratio: inlet / lpm,
            search_ratio: (inlet - give) / (lpm - give),
            samples,
            lpm_spread: above(lpm_spread),
            inlet_spread: above(inlet_spread),
        }
    }
}

/// What was measured with one ruleset.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rules: usize,
    pub(crate) hot: Cost,
    /// Caches displaced, then all keys, each once.
    pub(crate) cold: Cost,
    /// Caches displaced before each key, and then another key asked: code and the map of sockets are in the caches.
    pub(crate) alone: Cost,
    /// Caches displaced before each key, and no more.
    pub(crate) all_cold: Cost,
    pub(crate) program: ProgramInfo,
    pub(crate) image_bytes: u64,
    pub(crate) trie_bytes: u64,
    pub(crate) commit_ms: f64,
    /// The share of packets for which Inlet chose a socket, and for which the trie did.
    pub(crate) assigned: [f64; 2],
}

/// All rows, and how they came about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) displaced_mb: usize,
    pub(crate) displacement_ms: f64,
    pub(crate) cold_keys: usize,
    pub(crate) alone_keys: usize,
    pub(crate) hot_keys: usize,
}

/// Measures what the arguments say, in this time.
pub(crate) fn run(cli: &Cli, args: &LookupArgs, time: Budget<'_>) -> Result<Report> {
    let mut bench = Bench::new(args)?;
    table::progress(format_args!(
        "caches are displaced by walking {} MB, {:.1} ms each time",
        bench.displacer.megabytes(),
        bench.displacer.walk_ms()
    ));
    let mut sets = sets(cli, args);
    // A whole name, or the words that it begins with: "mix 100" is not "mix 1000".
    let begins = |name: &str, only: &String| {
        name.strip_prefix(only.as_str()).is_some_and(|it| !it.starts_with(|c: char| c != ' '))
    };
    sets.retain(|(name, ..)| args.only.is_empty() || args.only.iter().any(|only| begins(name, only)));
    let rules: Vec<usize> = sets.iter().map(|(_, rules, _)| *rules).collect();
    let mut rows = Vec::new();
    for (number, (name, _, make)) in sets.into_iter().enumerate() {
        let time = time.first_of(&rules[number..]);
        match time.is_over() {
            true => table::complain(format_args!("left out, no time is left: {name}; take all with --thorough")),
            false => rows.push(bench.measure(&make(), time)?),
        }
    }
    let LookupArgs { hot_keys, cold_keys, alone_keys, .. } = *args;
    let (displaced_mb, displacement_ms) = (bench.displacer.megabytes(), bench.displacer.walk_ms());
    let report = Report { rows, displaced_mb, displacement_ms, cold_keys, alone_keys, hot_keys };
    print(&report)?;
    Ok(report)
}

type Make = Box<dyn Fn() -> RuleSet>;

/// The rulesets by their names, with the number of their rules.
fn sets(cli: &Cli, args: &LookupArgs) -> Vec<(String, usize, Make)> {
    let (size, large) = if cli.quick { (10_000, 100_000) } else { (100_000, 1_000_000) };
    let mut sets: Vec<(String, usize, Make)> = Vec::new();
    for rules in args.sizes(cli) {
        sets.push((format!("mix {rules}"), rules, Box::new(move || rules::mix(rules, Families::Both))));
    }
    let hard: [(&str, usize, Make); 9] = [
        ("host routes", size, Box::new(move || rules::hosts(size))),
        ("nested", 32, Box::new(move || rules::nested(32))),
        ("nested", size, Box::new(move || rules::nested(size))),
        ("port ranges", 10_000, Box::new(|| rules::ranges(10_000))),
        ("one /16", size, Box::new(move || rules::one_net(size))),
        ("v6 /32 sequential", size, Box::new(move || rules::one_net6(size, false))),
        ("v6 /32 random", size, Box::new(move || rules::one_net6(size, true))),
        ("v4 only", large, Box::new(move || rules::mix(large, Families::V4))),
        ("v6 only", large, Box::new(move || rules::mix(large, Families::V6))),
    ];
    if !args.mix_only {
        sets.extend(hard.into_iter().map(|(name, rules, make)| (format!("{name} {rules}"), rules, make)));
    }
    sets
}
