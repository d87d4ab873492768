//! The `inlet` command: glue only. It reads the arguments, runs one command and turns what comes of it into an exit
//! code.
#![forbid(unsafe_code)]
#![deny(clippy::self_named_module_files)]

mod args;
mod commands;
mod failure;
mod manual;
mod render;
mod values;

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::Cli;
use crate::failure::Failure;
use crate::render::{Palette, Screen};

/// What the process ends with.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Usage,
    /// Done, and there is something to look at: a plan has changes, an import left something out.
    Attention,
    /// The command that was run ended with this status.
    Ended(u8),
}

impl Outcome {
    /// The exit status. No other place knows these numbers.
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Attention => 3,
            Self::Ended(status) => status,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match run() {
        Ok(outcome) => outcome,
        Err(failure) if failure.is_broken_pipe() => Outcome::Done,
        Err(failure) => {
            failure.report();
            match () {
                () if failure.is_usage() => Outcome::Usage,
                () if failure.is_partial() => Outcome::Attention,
                () => Outcome::Failed,
            }
        }
    };
    ExitCode::from(outcome.code())
}

fn run() -> Result<Outcome, Failure> {
    let cli = match manual::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Failure::Clap(error)),
        // Help and version, which were asked for.
        Err(text) => return Ok(text.print().map(|()| Outcome::Done)?),
    };
    let stdout = io::stdout().lock();
    let palette = Palette::of(&stdout);
    let mut out = BufWriter::with_capacity(1 << 16, stdout);
    commands::run(&cli, &mut Screen { out: &mut out, palette, json: cli.json, width: render::width() })
}
