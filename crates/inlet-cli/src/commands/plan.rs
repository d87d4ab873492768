//! Commands that replace the whole ruleset: planned, applied, confirmed, rolled back.

use std::process::Command;
use std::time::Duration;

use inlet::rules::config::Routes;
use inlet::rules::{Ruleset, Services};
use inlet::{
    ApplyOptions, CommitOptions, Committed, ConfirmError, Error, Instance, LastGood, Planner, Proposal, UpOptions,
    Waiter, Warning,
};

use super::{location, options, source, without, writer};
use crate::Outcome;
use crate::args::{Apply, Cli, Plan, Rollback};
use crate::failure::{self, Failure};
use crate::render::{self, Screen};

/// The hidden command that waits for confirmation.
const AWAIT: &str = "await-confirmation";

pub(super) fn plan(cli: &Cli, args: &Plan, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let file = source(&args.file)?;
    propose(cli, screen, args.all, |planner| planner.propose(file))
}

/// Shows what a change would do. Nothing is changed, and Inlet need not be up.
pub(super) fn propose(
    cli: &Cli,
    screen: &mut Screen<'_>,
    all: bool,
    change: impl FnOnce(&Planner) -> inlet::Result<Proposal>,
) -> Result<Outcome, Failure> {
    let planner = Planner::open(location(cli)?)?;
    let proposal = change(&planner)?;
    let warnings = planner.warnings(&proposal)?;
    let is_up = planner.snapshot().is_some();
    drop(planner);
    if !is_up {
        failure::note("inlet is not up here, so this is by comparison with no rules", Some("inlet up".to_owned()));
    }
    render::proposal(screen, &proposal, &warnings, all)?;
    Ok(if proposal.is_empty() { Outcome::Done } else { Outcome::Attention })
}

pub(super) fn apply(cli: &Cli, args: &Apply, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if args.up {
        Instance::up_or_open(location(cli)?, &UpOptions::default())?;
    }
    let applied = apply_file(cli, args, screen);
    if applied.is_err() && args.up {
        // What fails here is said beside what failed first, and that is why the command fails.
        fall_back(cli).unwrap_or_else(|error| failure::note(&format!("no ruleset is in force: {error}"), None));
    }
    applied
}

/// Puts the last good ruleset in force, unless there is one in force.
fn fall_back(cli: &Cli) -> Result<(), Error> {
    let mut instance = writer(cli)?;
    if instance.generation() > 1 || !instance.ruleset()?.is_empty() {
        return Ok(());
    }
    let Some((kept, file)) = LastGood::of(&location(cli)?).and_then(|kept| Some((kept.read().transpose()?, kept)))
    else {
        failure::note("no ruleset is in force: there is no last good one", None);
        return Ok(());
    };
    let committed = instance.apply(kept?, &ApplyOptions { later: true, ..ApplyOptions::default() })?;
    let text =
        format!("the last good ruleset is in force: {} (generation {})", file.path().display(), committed.generation);
    failure::note(&text, None);
    Ok(())
}

/// Keeps a ruleset that is to stay for the next boot.
fn keep(cli: &Cli, ruleset: &Ruleset, keeps_routes: bool) -> Result<(), Error> {
    let routes = if keeps_routes { Routes::Manage } else { Routes::Leave };
    LastGood::of(&location(cli)?).map_or(Ok(()), |last_good| last_good.keep(ruleset, routes))
}

fn apply_file(cli: &Cli, args: &Apply, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let file = source(&args.file)?;
    if let Some(line) = first_todo(&file.text).filter(|_| !args.ignore_todo) {
        return Err(Failure::Todo { file: file.name, line });
    }
    let waiter = args.confirm.map(|_| start_waiter(cli)).transpose()?;
    let commit = CommitOptions {
        confirm_within: args.confirm.map(Duration::from_secs),
        routes: args.routes.then_some(Routes::Manage),
        ..options(args.force)
    };
    let mut instance = writer(cli)?;
    let committed = instance.apply(file, &ApplyOptions { commit, later: args.later })?;
    let mut warnings = warnings(&instance, &committed);
    if args.later {
        let services = instance.ruleset()?.services();
        warnings.retain(|warning| !comes_later(services, warning));
    }
    finish(cli, screen, instance, &committed, &warnings, waiter.zip(args.confirm))
}

/// Whether it warns that a described service has no socket yet, which is as it should be before the servers start.
fn comes_later(services: &Services, warning: &Warning) -> bool {
    let Warning::NoSocket { service, .. } = warning else { return false };
    let id = services.id(service.as_str());
    id.and_then(|id| services.get(id)).is_some_and(|service| service.description.is_some())
}

/// The line of the first comment that says what has to be decided.
fn first_todo(text: &str) -> Option<usize> {
    let is_todo =
        |line: &str| line.trim_start().strip_prefix('#').is_some_and(|said| said.trim_start().starts_with("TODO"));
    text.lines().position(is_todo).map(|at| at + 1)
}

pub(super) fn rollback(cli: &Cli, args: &Rollback, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut instance = writer(cli)?;
    let committed = instance.roll_back(&options(args.force))?;
    let warnings = warnings(&instance, &committed);
    finish(cli, screen, instance, &committed, &warnings, None)
}

/// Closes the instance, lets the process begin that waits for confirmation, and shows what changed.
fn finish(
    cli: &Cli,
    screen: &mut Screen<'_>,
    instance: Instance,
    committed: &Committed,
    warnings: &[Warning],
    waiter: Option<(Waiter, u64)>,
) -> Result<(), Failure> {
    without(&committed.without);
    let after = instance.into_ruleset()?;
    let mut confirm_within = None;
    if let Some((waiter, seconds)) = waiter {
        confirm_within = waiter.begin()?.then_some(seconds);
        if confirm_within.is_none() && !committed.plan.is_empty() {
            // Nobody would go back in time.
            writer(cli)?.roll_back(&options(true))?;
            return Err(Failure::Inlet(Error::Confirm(ConfirmError::NobodyWaits)));
        }
    }
    let kept = if confirm_within.is_none() { keep(cli, &after, committed.keeps_routes) } else { Ok(()) };
    render::applied(screen, committed, &after, warnings, confirm_within)?;
    Ok(kept?)
}

/// What a commit did that may not be meant. It is in force, so whatever keeps us from looking is no failure of the
/// command.
pub(super) fn warnings(instance: &Instance, committed: &Committed) -> Vec<Warning> {
    instance.warnings(committed).unwrap_or_else(|error| {
        failure::note(&format!("the change is in force; what it means for sockets is not known: {error}"), None);
        Vec::new()
    })
}

pub(super) fn confirm(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut instance = Instance::open(location(cli)?)?;
    instance.confirm()?;
    let (generation, keeps_routes) = (instance.generation(), instance.keeps_routes());
    let kept = keep(cli, &instance.into_ruleset()?, keeps_routes);
    render::confirmed(screen, generation)?;
    Ok(kept?)
}

/// Starts this same program to wait for confirmation.
fn start_waiter(cli: &Cli) -> Result<Waiter, Error> {
    let failed = |operation, object: &std::path::Path| {
        let object = object.display().to_string();
        move |cause| Error::Os { operation, object, cause }
    };
    let bpffs = cli.bpffs.canonicalize().map_err(failed("open", &cli.bpffs))?;
    let this = std::env::current_exe().map_err(failed("find", "this program".as_ref()))?;
    let mut command = Command::new(this);
    command.arg(AWAIT).arg("--bpffs").arg(bpffs);
    Waiter::start(&location(cli)?, command)
}

pub(super) fn await_confirmation(cli: &Cli) -> Result<(), Failure> {
    inlet::wait_in_background(&cli.bpffs)?;
    Ok(())
}
