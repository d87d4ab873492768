//! Sockets that went to a service or left it.

use std::collections::BTreeSet;

use inlet::{Adoption, Endpoint, Refusal, Refused, Stranger};
use serde::Serialize;

use super::table::Table;
use super::{Screen, counted, palette::paint};
use crate::failure::Failure;

#[derive(Serialize)]
struct Report<'a> {
    service: &'a str,
    adopted: Vec<Adopted>,
    refused: Vec<Reason<'a>>,
}

#[derive(Serialize)]
struct Adopted {
    protocol: &'static str,
    local: String,
    cookie: u64,
    known: bool,
    stranger: Option<u32>,
}

#[derive(Serialize)]
struct Reason<'a> {
    socket: &'a str,
    reason: String,
    fix: Option<&'static str>,
}

pub(crate) fn adoption(screen: &mut Screen<'_>, service: &str, adoption: &Adoption) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&report(service, adoption));
    }
    let mut table = Table::default();
    for socket in &adoption.adopted {
        let state = match socket.adopted {
            inlet::Adopted::Before => "known",
            inlet::Adopted::Now => "new",
        };
        table.row(["adopted".to_owned(), socket.endpoint.to_string(), format!("cookie {}, {state}", socket.cookie)]);
    }
    // A busy server has thousands of connections, and each is as it should be.
    let is_connection = |refused: &&Refused| refused.reason == Refusal::Connected;
    for refused in adoption.refused.iter().filter(|refused| !is_connection(refused)) {
        table.row(["refused".to_owned(), refused.what.clone(), refused.reason.to_string()]);
    }
    let connections = adoption.refused.iter().filter(is_connection).count();
    if connections > 0 {
        table.row(["refused".to_owned(), counted(connections, "connected socket"), "connected".to_owned()]);
    }
    table.write(screen, 0)?;
    strangers(screen, adoption.adopted.iter().filter_map(|it| Some((service, it.endpoint, it.stranger?))))?;
    fixes(screen, adoption.refused.iter().map(|refused| refused.reason))
}

/// The next steps after refusals, each once.
pub(super) fn fixes(screen: &mut Screen<'_>, reasons: impl Iterator<Item = Refusal>) -> Result<(), Failure> {
    let fixes: BTreeSet<&str> = reasons.filter_map(|reason| reason.remedy()).collect();
    fixes.into_iter().try_for_each(|fix| Ok(writeln!(screen.out, "fix: {fix}")?))
}

/// Sockets of other users than those that their service had.
pub(super) fn strangers<'a>(
    screen: &mut Screen<'_>,
    found: impl Iterator<Item = (&'a str, Endpoint, Stranger)>,
) -> Result<(), Failure> {
    let mut services = BTreeSet::new();
    for (service, endpoint, user) in found {
        let line = format!("warning: {endpoint} belongs to user {user}, the other sockets of service {service} do not");
        writeln!(screen.out, "{}", paint(screen.palette.changed, line))?;
        services.insert(service);
    }
    services.into_iter().try_for_each(|service| Ok(writeln!(screen.out, "fix: {}", Stranger::remedy(service))?))
}

fn report<'a>(service: &'a str, adoption: &'a Adoption) -> Report<'a> {
    let adopted = |socket: &inlet::AdoptedSocket| Adopted {
        protocol: socket.endpoint.protocol().as_str(),
        local: socket.endpoint.addr().to_string(),
        cookie: socket.cookie,
        known: socket.adopted == inlet::Adopted::Before,
        stranger: socket.stranger.map(|user| user.0),
    };
    let reason = |refused: &'a Refused| Reason {
        socket: &refused.what,
        reason: refused.reason.to_string(),
        fix: refused.reason.remedy(),
    };
    Report {
        service,
        adopted: adoption.adopted.iter().map(adopted).collect(),
        refused: adoption.refused.iter().map(reason).collect(),
    }
}

#[derive(Serialize)]
struct Gone<'a> {
    service: &'a str,
    unregistered: usize,
}

pub(crate) fn unregistered(screen: &mut Screen<'_>, service: &str, count: usize) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&Gone { service, unregistered: count });
    }
    Ok(writeln!(screen.out, "took {} out of {service}", counted(count, "socket"))?)
}
