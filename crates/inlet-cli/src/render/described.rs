//! Descriptions of services, and what was found by them.

use anstyle::Style;
use inlet::rules::{Confine, Description, Protocol, Ruleset, UserName};
use inlet::{Adopted, FoundSocket, LastRefusal, NotFound, ServiceState, SocketState, Stranger};
use serde::Serialize;

use super::adoption::{fixes, strangers};
use super::table::Table;
use super::{Screen, grouped, printable};
use crate::failure::Failure;

#[derive(Serialize)]
struct Row<'a> {
    service: &'a str,
    protocol: &'static str,
    local: String,
    cookie: u64,
    known: bool,
    stranger: Option<u32>,
    refused: Option<String>,
    fix: Option<&'static str>,
}

pub(crate) fn findings(screen: &mut Screen<'_>, ruleset: &Ruleset, findings: &[FoundSocket]) -> Result<(), Failure> {
    let name =
        |finding: &FoundSocket| ruleset.services().get(finding.service).map_or("?", |service| service.name.as_str());
    if screen.json {
        let found = |finding: &FoundSocket| Row {
            service: name(finding),
            protocol: finding.endpoint.protocol().as_str(),
            local: finding.endpoint.addr().to_string(),
            cookie: finding.cookie,
            known: finding.outcome == Ok(Adopted::Before),
            stranger: finding.stranger.map(|user| user.0),
            refused: finding.outcome.err().map(|reason| reason.to_string()),
            fix: finding.outcome.err().and_then(|reason| reason.remedy()),
        };
        return screen.document(&findings.iter().map(found).collect::<Vec<_>>());
    }
    let mut table = Table::default();
    for finding in findings {
        let (what, more) = match finding.outcome {
            Ok(Adopted::Now) => ("adopted", format!("cookie {}, new", finding.cookie)),
            Ok(Adopted::Before) => ("adopted", format!("cookie {}, known", finding.cookie)),
            Err(reason) => ("refused", reason.to_string()),
        };
        table.row([what.to_owned(), finding.endpoint.to_string(), format!("-> {}", name(finding)), more]);
    }
    table.write(screen, 0)?;
    strangers(screen, findings.iter().filter_map(|it| Some((name(it), it.endpoint, it.stranger?))))?;
    fixes(screen, findings.iter().filter_map(|finding| finding.outcome.err()))
}

#[derive(Serialize)]
pub(crate) struct Described {
    listen: Vec<String>,
    unit: Option<String>,
    cgroup: Option<String>,
    user: Option<String>,
    anyone: bool,
    no_mptcp: bool,
    own_binds: bool,
    /// Addresses for which there is no socket.
    waiting: Vec<String>,
    /// Why nothing is found.
    problem: Option<String>,
    fix: Option<&'static str>,
}

#[derive(Serialize)]
pub(crate) struct Refused<'a> {
    count: u64,
    local: String,
    pid: Option<u32>,
    command: &'a str,
    reason: String,
    fix: Option<&'static str>,
}

impl Described {
    pub(crate) fn of(service: &ServiceState) -> Option<Self> {
        let Description { confine, user, anyone, no_mptcp, own_binds, .. } = service.description.as_ref()?;
        let (unit, cgroup) = match confine {
            Some(Confine::Unit(unit)) => (Some(unit.as_str().to_owned()), None),
            Some(Confine::Cgroup(path)) => (None, Some(path.as_str().to_owned())),
            None => (None, None),
        };
        Some(Self {
            listen: service.description.iter().flat_map(Description::listen).map(ToString::to_string).collect(),
            unit,
            cgroup,
            anyone: *anyone,
            no_mptcp: *no_mptcp,
            own_binds: *own_binds,
            user: user.as_ref().map(UserName::as_str).map(str::to_owned),
            waiting: waiting(service),
            problem: service.not_found.as_ref().map(ToString::to_string),
            fix: service.not_found.as_ref().map(NotFound::remedy),
        })
    }
}

impl<'a> From<&'a LastRefusal> for Refused<'a> {
    fn from(refusal: &'a LastRefusal) -> Self {
        let LastRefusal { count, endpoint, pid, ref command, reason } = *refusal;
        Self {
            count,
            local: endpoint.addr().to_string(),
            pid,
            command,
            reason: reason.to_string(),
            fix: reason.remedy(),
        }
    }
}

/// The addresses that are described and at which the service has no socket.
fn waiting(service: &ServiceState) -> Vec<String> {
    let has = |listen: &inlet::rules::Listen| {
        let at = |socket: &SocketState| {
            let device = socket.device.as_ref().and_then(|device| device.name.parse().ok());
            socket.local.map(|local| local.on(device))
        };
        let drained = service.drained.iter().map(|drained| &drained.socket);
        service.sockets.iter().chain(drained).filter_map(at).any(|socket| listen.matches(&socket))
    };
    let described = service.description.iter().flat_map(Description::listen);
    described.filter(|listen| !has(listen)).map(ToString::to_string).collect()
}

/// What a service says of itself beside its sockets: its description, and what is wrong with what was found by it.
pub(crate) fn write(screen: &mut Screen<'_>, service: &ServiceState, is_watched: bool) -> Result<(), Failure> {
    let Some(description) = &service.description else { return Ok(()) };
    let (plain, bad, changed) = (Style::new(), screen.palette.bad, screen.palette.changed);
    screen.line(plain, &format!("described: {description}"))?;
    if let Some(reason) = &service.not_found {
        screen.line(bad, &format!("finds nothing: {}", printable(&reason.to_string())))?;
        screen.line(plain, &format!("fix: {}", reason.remedy()))?;
    }
    let waiting = waiting(service);
    if !waiting.is_empty() {
        screen.line(changed, &format!("waiting for {}", waiting.join(", ")))?;
    }
    let mut users: Vec<u32> = service.sockets.iter().filter_map(|socket| socket.user).collect();
    users.sort_unstable();
    users.dedup();
    if users.len() > 1 {
        let names: Vec<String> = users.into_iter().map(|user| Stranger(user).to_string()).collect();
        screen.line(changed, &format!("its sockets belong to users {}", names.join(" and ")))?;
        screen.line(plain, &format!("fix: {}", Stranger::remedy(service.name.as_str())))?;
    }
    let has_udp = description.listen().iter().any(|listen| listen.protocol() == Protocol::Udp);
    if has_udp && !is_watched {
        screen.line(changed, "no watcher: UDP sockets bound from now on are not found")?;
        screen.line(plain, "fix: inlet watch")?;
    }
    if let Some(LastRefusal { count, endpoint, pid, command, reason }) = &service.refusal {
        let owner = pid.map_or_else(String::new, |pid| format!(" of pid {pid} ({})", printable(command)));
        screen.line(bad, &format!("refused {}, last {endpoint}{owner}: {reason}", grouped(*count)))?;
        if let Some(fix) = reason.remedy() {
            screen.line(plain, &format!("fix: {fix}"))?;
        }
    }
    Ok(())
}
