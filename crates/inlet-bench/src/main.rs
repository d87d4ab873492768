//! What Inlet costs: lookups, commits and traffic, each against what is usual.
//!
//! Every figure is a median of repeats, interleaved with what it is compared with. See README.md.
#![deny(unsafe_code)]

mod args;
mod baseline;
mod cold;
mod commit;
mod gate;
mod goals;
mod launch;
mod lookup;
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
use crate::goals::Goal;
use crate::report::{Machine, Report};

/// What can go wrong is told and ends the run.
pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<ExitCode> {
    let mut cli = Cli::parse();
    match cli.command.take().unwrap_or(Command::All) {
        Command::Launch { program, arguments } => {
            serde_json::to_writer(std::io::stdout(), &launch::launch(&program, &arguments)?)?;
        }
        Command::All => {
            let quick: &[&str] = if cli.quick { &["lookup", "--alone-keys", "100"] } else { &["lookup"] };
            measure(&cli, Some(&LookupArgs::parse_from(quick)), true, true)?;
        }
        Command::Lookup(args) => measure(&cli, Some(&args), false, false)?,
        Command::Commit => measure(&cli, None, true, false)?,
        Command::Traffic => measure(&cli, None, false, true)?,
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

/// Measures the parts wanted, and writes and prints what came of them.
fn measure(cli: &Cli, lookups: Option<&LookupArgs>, commits: bool, with_traffic: bool) -> Result<()> {
    let machine = Machine::this()?;
    let lookup = lookups.map(|args| lookup::run(cli, args)).transpose()?;
    let commit = commits.then(|| commit::run(cli.quick, cli.huge, cli.inlet.as_deref())).transpose()?;
    let traffic = with_traffic.then(|| traffic::run(cli.quick)).transpose()?;
    let goals = [
        lookup.as_ref().map(goals::lookups),
        commit.as_deref().map(goals::commits),
        traffic.as_deref().map(goals::traffic),
    ];
    let goals: Vec<_> = goals.into_iter().flatten().flatten().filter(Goal::is_measured).collect();
    goals::print(&goals)?;
    let report = Report { machine, lookup, commit, traffic, goals };
    summary::print(&report)?;
    report.write(&cli.out)
}
