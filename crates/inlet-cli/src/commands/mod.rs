//! One function for each command: a request, one call of the library, what it gave to the renderer.
//!
//! An instance or a snapshot is closed before anything is written: a pager that waits for a key must not hold its lock.

mod all;
mod check;
mod docs;
mod explain;
mod granted;
mod import;
mod listeners;
mod plan;
mod rules;
mod sockets;
mod state;

use std::path::Path;

use inlet::rules::config::Source;
use inlet::{CommitOptions, Error, FileError, Instance, Location, Netns, Snapshot};

use crate::Outcome;
use crate::args::{Cli, Command};
use crate::failure::{self, Failure};
use crate::render::{self, Screen};

/// Runs the command. What is wrong with a ruleset file, programs get as JSON.
pub(crate) fn run(cli: &Cli, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    // Written out here, where it is known what a failure of that means.
    let done = dispatch(cli, screen).and_then(|outcome| Ok(screen.out.flush().map(|()| outcome)?));
    let done = if changes(&cli.command) { done.map_err(Failure::after_change) } else { done };
    if let Err(Failure::Inlet(Error::File(FileError::Wrong(found)))) = &done
        && screen.json
    {
        render::errors(screen, found)?;
    }
    done
}

/// Whether a command changes the instance, and writes when that is done.
fn changes(command: &Command) -> bool {
    use Command::{Adopt, Apply, Bind, Confirm, Down, Drain, Gc, Register, Rollback, Service, Unbind, Unregister, Up};
    matches!(
        command,
        Up(_)
            | Down { .. }
            | Gc
            | Bind(_)
            | Unbind(_)
            | Service(_)
            | Register(_)
            | Unregister(_)
            | Drain(_)
            | Adopt { .. }
            | Apply(_)
            | Confirm
            | Rollback(_)
    )
}

fn dispatch(cli: &Cli, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let done = match &cli.command {
        Command::Plan(args) => return plan::plan(cli, args, screen),
        Command::Run(args) => return sockets::run(cli, args),
        Command::Drain(args) => return sockets::drain(cli, args, screen),
        Command::Bind(args) => return rules::bind(cli, args, screen),
        Command::Unbind(args) => return rules::unbind(cli, args, screen),
        Command::Service(args) => return rules::service(cli, args, screen),
        Command::Up(args) if args.all => all::up(cli, screen),
        Command::Up(args) => state::up(cli, args, screen),
        Command::Down { all: true } => all::down(cli, screen),
        Command::Down { all: false } => state::down(cli, screen),
        Command::List { all } => all::list(cli, *all, screen),
        Command::Gc => all::gc(cli, screen),
        Command::Register(args) => sockets::register(cli, args, screen),
        Command::Unregister(args) => sockets::unregister(cli, args, screen),
        Command::Adopt { service } => sockets::adopt(cli, service.as_ref(), screen),
        Command::Watch => sockets::watch(cli, screen),
        Command::Grantd(args) => granted::grantd(cli, args),
        Command::Apply(args) => plan::apply(cli, args, screen),
        Command::Import(args) => import::import(cli, args, screen),
        Command::Confirm => plan::confirm(cli, screen),
        Command::Rollback(args) => plan::rollback(cli, args, screen),
        Command::AwaitConfirmation => plan::await_confirmation(cli),
        Command::Export(args) => rules::export(cli, args, screen),
        Command::Status => state::status(cli, screen),
        Command::Rules(args) => rules::list(cli, args, screen),
        Command::Services => state::services(cli, screen),
        Command::Check(args) => check::check(cli, args, screen),
        Command::Listeners => listeners::listeners(cli, screen),
        Command::Explain(args) => explain::explain(cli, args, screen),
        Command::Completions { shell } => docs::completions(*shell, screen),
        Command::Man { dir } => docs::man(dir),
    };
    done.map(|()| Outcome::Done)
}

fn location(cli: &Cli) -> inlet::Result<Location> {
    let netns = match &cli.netns {
        Some(spec) => Netns::open(spec)?,
        None => Netns::own()?,
    };
    Ok(Location::new(&cli.bpffs, netns))
}

/// Opens the instance for a change, and says when that went back to an earlier ruleset.
fn writer(cli: &Cli) -> inlet::Result<Instance> {
    let instance = Instance::open(location(cli)?)?;
    if let Some(unconfirmed) = instance.went_back_from() {
        let now = instance.generation();
        let text = format!(
            "generation {unconfirmed} was not confirmed in time; the previous ruleset is in force again (generation {now})"
        );
        failure::note(&text, None);
    }
    without(instance.went_without());
    Ok(instance)
}

/// Says what could not be had of the ruleset that is in force.
fn without(errors: &[Error]) {
    errors.iter().for_each(failure::without);
}

/// How a change comes into force. Without `force` one is refused that locks out whoever makes it.
fn options(force: bool) -> CommitOptions {
    CommitOptions { guard: !force, ..CommitOptions::default() }
}

fn reader(cli: &Cli) -> inlet::Result<Snapshot> {
    Snapshot::open(location(cli)?)
}

/// The file that a command is given, which may be standard input.
fn source(file: &Path) -> inlet::Result<Source> {
    let failed = |object: String| |cause| Error::Os { operation: "read", object, cause };
    if file.as_os_str() == "-" {
        let text = inlet::read_stdin().map_err(failed("standard input".to_owned()))?;
        return Ok(Source::new("standard input", text));
    }
    let text = inlet::read_text(file).map_err(failed(file.display().to_string()))?;
    Ok(Source::file(file, text))
}
