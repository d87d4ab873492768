//! Commands that give sockets to services and take them out.

use std::process::Command;
use std::time::{Duration, Instant};

use inlet::rules::ServiceName;
use inlet::{Adopted, Refusal, RunOptions, Watcher, read_pidfile};

use super::{location, reader, writer};
use crate::Outcome;
use crate::args::{Cli, Drain, Register, Run, Unregister};
use crate::failure::{self, Failure};
use crate::render::{self, Screen};

pub(super) fn register(cli: &Cli, args: &Register, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let service = args.service.as_str();
    let pid = match &args.owner.pidfile {
        Some(path) => Some(read_pidfile(path)?),
        None => args.owner.pid,
    };
    if let Some(done) = super::granted::register(cli, args, pid, screen) {
        return done;
    }
    let mut instance = writer(cli)?;
    let adoption = match pid {
        Some(pid) => instance.register_process(service, pid, &args.listen)?,
        None => instance.register_systemd(service, &args.listen)?,
    };
    drop(instance);
    render::adoption(screen, service, &adoption)?;
    // The others that it was asked for are not what their service could do without.
    let failed = adoption.refused.iter().find(|refused| matches!(refused.reason, Refusal::NotTaken(_)));
    failed.map_or(Ok(()), |refused| Err(Failure::NotAdopted(refused.what.clone(), refused.reason)))
}

pub(super) fn unregister(cli: &Cli, args: &Unregister, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if let Some(done) = super::granted::unregister(cli, &args.service, args.pid, screen) {
        return done;
    }
    let service = args.service.as_str();
    let mut instance = writer(cli)?;
    let count = instance.unregister(service, args.pid)?;
    drop(instance);
    render::unregistered(screen, service, count)
}

/// Waits without a lock: others go on changing the instance.
pub(super) fn drain(cli: &Cli, args: &Drain, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let draining = writer(cli)?.drain(args.service.as_str(), args.pid)?;
    let timeout = Duration::from_secs(args.timeout.into());
    render::draining(screen, args.service.as_str(), &draining)?;
    let mut shown = None;
    loop {
        let left = draining.left()?;
        let over = timeout.saturating_sub(began.elapsed());
        let is_last = left.is_nothing() || over.is_zero();
        if is_last || shown != Some((left.flows, left.connections)) {
            render::left(screen, &left, is_last)?;
            shown = Some((left.flows, left.connections));
        }
        match () {
            () if left.is_nothing() => return Ok(Outcome::Done),
            () if over.is_zero() => return Ok(Outcome::Attention),
            // Nothing tells of a flow that ends by being silent.
            () => _ = draining.wait(over.min(Duration::from_secs(1)))?,
        }
    }
}

pub(super) fn adopt(cli: &Cli, service: Option<&ServiceName>, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut instance = writer(cli)?;
    let only = service.map(|name| instance.id_of(name.as_str())).transpose()?;
    let mut findings = instance.adopt()?;
    findings.retain(|finding| only.is_none_or(|only| finding.service == only));
    let ruleset = instance.into_ruleset()?;
    render::findings(screen, &ruleset, &findings)?;
    match findings.iter().find_map(|finding| Some((finding.endpoint, finding.outcome.err()?))) {
        None => Ok(()),
        Some((endpoint, reason)) => Err(Failure::NotAdopted(endpoint.to_string(), reason)),
    }
}

/// Runs until the instance is gone; a signal ends it as any program, for it holds nothing.
pub(super) fn watch(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let watcher = Watcher::new(location(cli)?)?;
    let mut findings = watcher.look()?;
    loop {
        findings.retain(|finding| finding.outcome != Ok(Adopted::Before));
        if !findings.is_empty() {
            let ruleset = reader(cli)?.into_ruleset();
            render::findings(screen, &ruleset, &findings)?;
            screen.out.flush()?;
        }
        findings = watcher.wait(None)?.unwrap_or_default();
    }
}

pub(super) fn run(cli: &Cli, args: &Run) -> Result<Outcome, Failure> {
    let location = location(cli)?;
    let mut words = args.command.iter();
    let mut command = Command::new(words.next().map_or_else(Default::default, Clone::clone));
    let options = RunOptions { listen: args.listen.clone(), own_binds: args.own_binds };
    let ran = inlet::run(&location, &args.service, &options, command.args(words))?;
    if let Some(left) = &ran.leftovers {
        failure::note(&left.to_string(), Some(left.remedy()));
    }
    Ok(Outcome::Ended(ran.code()))
}
