//! What Inlet costs: lookups, commits and traffic, each against what is usual.
//!
//! Every figure is a median of repeats, interleaved with what it is compared with. See README.md.
#![deny(unsafe_code)]
#![deny(clippy::self_named_module_files)]

mod args;
mod baseline;
mod budget;
mod cold;
mod commit;
mod gate;
mod goals;
mod launch;
mod lookup;
mod machine;
mod plot;
mod raw;
mod receivers;
mod report;
mod rng;
mod rules;
mod stats;
mod summary;
mod table;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, LookupArgs};
use crate::budget::Budget;
use crate::goals::Goal;
use crate::machine::Machine;
use crate::report::Report;
use crate::traffic::{answers, described, own};

/// An error ends the run, with its message.
pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<ExitCode> {
    let mut cli = Cli::parse();
    match cli.command.take().unwrap_or(Command::All) {
        Command::Launch { program, arguments } => {
            serde_json::to_writer(std::io::stdout(), &launch::launch(&program, &arguments)?)?;
        }
        Command::All => {
            let quick: &[&str] = if cli.quick { &["lookup", "--alone-keys", "100"] } else { &["lookup"] };
            let lookups = Some(LookupArgs::parse_from(quick));
            measure(&cli, &Parts { lookups, ..Parts::ALL })?;
        }
        Command::Lookup(args) => measure(&cli, &Parts { lookups: Some(args), ..Parts::default() })?,
        Command::Commit => measure(&cli, &Parts { commits: true, ..Parts::default() })?,
        Command::Traffic => measure(&cli, &Parts { traffic: true, ..Parts::default() })?,
        Command::Described => measure(&cli, &Parts { described: true, ..Parts::default() })?,
        Command::Answers => measure(&cli, &Parts { answers: true, ..Parts::default() })?,
        Command::OwnBinds => measure(&cli, &Parts { own_binds: true, ..Parts::default() })?,
        Command::Gate => return gate(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the gate, or says that it is skipped, which with CI=true is a failure.
fn gate() -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        table::complain("gate: skipped, it needs root");
        let may_skip = std::env::var_os("CI").is_none_or(|ci| ci != "true");
        return Ok(if may_skip { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let failed = gate::run()?;
    for line in &failed {
        table::complain(format_args!("gate: {line}"));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What to measure.
#[derive(Default)]
struct Parts {
    lookups: Option<LookupArgs>,
    commits: bool,
    traffic: bool,
    described: bool,
    answers: bool,
    own_binds: bool,
}

impl Parts {
    const ALL: Self =
        Self { lookups: None, commits: true, traffic: true, described: true, answers: true, own_binds: true };
}

/// Measures the parts wanted, and writes and prints what came of them.
fn measure(cli: &Cli, parts: &Parts) -> Result<()> {
    let machine = Machine::this()?;
    let time = if cli.thorough { Budget::thorough() } else { Budget::of_run() };
    let lookup = parts.lookups.as_ref().map(|args| lookup::run(cli, args, time.share(budget::LOOKUP))).transpose()?;
    let commit = parts.commits.then(|| commit::run(cli, time.share(budget::COMMIT))).transpose()?;
    let traffic = parts.traffic.then(|| traffic::run(cli.quick, time.share(budget::TRAFFIC))).transpose()?;
    let described = parts.described.then(|| described::run(cli, time.share(budget::DESCRIBED))).transpose()?;
    let answers = parts.answers.then(|| answers::run(cli.quick, time.share(budget::ANSWERS))).transpose()?;
    let own_binds = parts.own_binds.then(|| own::run(cli.quick, time)).transpose()?;
    let goals = [
        lookup.as_ref().map(goals::lookups),
        commit.as_deref().map(goals::commits),
        traffic.as_deref().map(goals::traffic),
        described.as_ref().map(goals::described),
        answers.as_ref().map(goals::answers),
    ];
    let goals: Vec<_> = goals.into_iter().flatten().flatten().filter(Goal::is_measured).collect();
    goals::print(&goals)?;
    let report = Report { machine, lookup, commit, traffic, described, answers, own_binds, goals };
    summary::print(&report)?;
    report.write(&cli.out)
}
