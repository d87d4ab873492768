//! The arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measure what Inlet costs
///
/// Runs as root, in network namespaces of its own. Without a command it measures everything, in at most ten minutes: on
/// a machine where samples take long it takes fewer of them, and says how many.
#[derive(Debug, Parser)]
#[command(name = "inlet-bench", version)]
pub(crate) struct Cli {
    /// All samples, however long it takes
    #[arg(long, global = true, conflicts_with = "quick")]
    pub(crate) thorough: bool,

    /// Fewer rules and repeats
    #[arg(long, global = true)]
    pub(crate) quick: bool,

    /// Where bench.json and lookup.svg go
    #[arg(long, global = true, default_value = "target/bench")]
    pub(crate) out: PathBuf,

    /// The `inlet` program [default: beside this program, or target/release/inlet]
    #[arg(long, global = true)]
    pub(crate) inlet: Option<PathBuf>,

    /// Also 10,000,000 rules
    #[arg(long, global = true)]
    pub(crate) huge: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All of them
    All,
    /// What a lookup costs, against an LPM trie
    Lookup(LookupArgs),
    /// What a commit costs
    Commit,
    /// What traffic costs, against a direct bind and TPROXY
    Traffic,
    /// What descriptions cost others, and how soon a UDP socket is found
    Described,
    /// What answers over UDP that leave as asked cost, and flows that stay
    Answers,
    /// What own binds cost programs that have none
    OwnBinds,
    /// Fail when the lookup program or the image compiler got clearly worse; for CI
    ///
    /// Compares sizes of programs and images, and a ratio of searches, with src/gate/limits.rs. Writes nothing.
    Gate,
    /// Runs a program and writes what it took; for the benchmark itself
    #[command(hide = true, disable_help_flag = true)]
    Launch {
        /// The program
        program: OsString,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What to measure of lookups.
#[derive(Clone, Debug, Parser)]
pub(crate) struct LookupArgs {
    /// Only rulesets whose name is one of these or begins with its words, such as "mix 1000000" or v6
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// No worst cases
    #[arg(long)]
    pub(crate) mix_only: bool,

    /// Sizes of the realistic mix
    #[arg(long, value_delimiter = ',')]
    pub(crate) sizes: Option<Vec<usize>>,

    /// Keys asked in a loop
    #[arg(long, default_value_t = 15)]
    pub(crate) hot_keys: usize,

    /// Keys asked once each, after the caches are displaced; 0 skips
    #[arg(long, default_value_t = 3000)]
    pub(crate) cold_keys: usize,

    /// Times that the caches are displaced and these keys asked by each program, as there is time
    #[arg(long, default_value_t = 7)]
    pub(crate) passes: usize,

    /// Keys before each of which the caches are displaced, as many as there is time for; 0 skips
    #[arg(long, default_value_t = 300)]
    pub(crate) alone_keys: usize,

    /// Rounds for each hot key
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,

    /// Lookups in a round
    #[arg(long, default_value_t = 100_000)]
    pub(crate) repeat: u32,

    /// How much memory displaces the caches, in sizes of the last level
    #[arg(long, default_value_t = 2.0)]
    pub(crate) displace: f64,
}

impl LookupArgs {
    /// Those that an empty command line has.
    pub(crate) fn all() -> Self {
        Self::parse_from(["lookup"])
    }

    /// The sizes of the realistic mix.
    pub(crate) fn sizes(&self, cli: &Cli) -> Vec<usize> {
        let all = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
        match &self.sizes {
            Some(sizes) => sizes.clone(),
            None if cli.huge => all.to_vec(),
            None if cli.quick => all[..6].to_vec(),
            None => all[..7].to_vec(),
        }
    }
}
