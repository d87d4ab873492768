//! Puts the ruleset of a file in force, unless somebody else changed the rules since it was planned.
//!
//! ```text
//! inlet up
//! cargo run --example apply -- /etc/inlet.toml
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program")]

use std::path::Path;
use std::process::ExitCode;

use inlet::rules::config::Source;
use inlet::{ApplyOptions, CommitOptions, Error, FileError, Instance, Location, Planner};

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/etc/inlet.toml".to_owned());
    match Location::default_for_this_process().and_then(|location| apply(location, path.as_ref())) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            // The next step is data, so that a program can show it as it likes.
            error.remedy().iter().for_each(|fix| eprintln!("fix: {fix}"));
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn apply(location: Location, path: &Path) -> inlet::Result<String> {
    let unreadable = |cause| Error::from(FileError::Unreadable { path: path.to_owned(), cause });
    let text = inlet::read_text(path).map_err(unreadable)?;
    // A reader changes nothing. It is closed before the instance is opened to be changed.
    let proposal = Planner::open(location.clone())?.propose(Source::file(path, text.clone()))?;
    let commit = CommitOptions {
        expect_generation: Some(proposal.generation),
        // Not when it would take packets from SSH.
        guard: true,
        ..CommitOptions::default()
    };
    let options = ApplyOptions { commit, later: false };
    let committed = Instance::open(location)?.apply(Source::file(path, text), &options)?;
    Ok(format!("{} rules changed, generation {} is in force", committed.plan.rules.len(), committed.generation))
}
