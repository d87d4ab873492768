//! What sockets and services receive.

use inlet::rules::{Area, Claim, Ruleset};
use inlet::{Device, Drained, Listener, Listeners, ServiceTraffic};
use serde::Serialize;

use super::area::{ClaimReport, claim_report, interface};
use super::socket::{self, Socket};
use super::table::Table;
use super::{Screen, counted, draining, grouped, join};
use crate::failure::Failure;

/// How many lines are shown of a socket or a service.
const SHOWN: usize = 24;

/// How many addresses or ports a line names: of a socket, whose service may have more below, and of a service.
const FEW: usize = 8;
const MANY: usize = 200;

/// Before the lines of a socket or a service.
const INDENT: usize = 4;

/// By what it is received, the ports, the addresses.
type Row = [String; 3];

#[derive(Serialize)]
struct Report {
    listeners: Vec<ListenerReport>,
    services: Vec<ServiceReport>,
}

#[derive(Serialize)]
struct ListenerReport {
    #[serde(flatten)]
    socket: Socket,
    receives: Vec<ClaimReport>,
    answers_pass: bool,
    service: Option<String>,
    drained: Option<draining::OfListener>,
}

#[derive(Serialize)]
struct ServiceReport {
    name: String,
    sockets: usize,
    receiving: usize,
    receives: Vec<ClaimReport>,
    /// The interfaces that all of its sockets are bound to; none when one is bound to none.
    only_on: Vec<String>,
}

pub(crate) fn listeners(screen: &mut Screen<'_>, ruleset: &Ruleset, all: &Listeners) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&report(ruleset, all));
    }
    for listener in &all.listeners {
        let [local, _, owner] = socket::words(&listener.socket);
        screen.title(&local, &owner)?;
        let mut rows = rows(ruleset, Some("bind"), &listener.kept, FEW, listener.socket.device.as_ref());
        rows.extend(by_service(ruleset, all, listener));
        if listener.answers_pass {
            rows.push(["answers", "to what it sent", ""].map(str::to_owned));
        }
        rows.extend(listener.drained.as_ref().map(drained));
        paragraph(screen, rows)?;
    }
    for (number, service) in all.services.iter().enumerate() {
        if number > 0 || !all.listeners.is_empty() {
            writeln!(screen.out)?;
        }
        let mut sockets = counted(service.sockets, "socket");
        if service.receiving < service.sockets {
            sockets.push_str(&format!(", {} of them receiving", service.receiving));
        }
        if !service.only_on.is_empty() {
            let names: Vec<&str> = service.only_on.iter().map(|device| device.name.as_str()).collect();
            sockets.push_str(&format!(", on {} only", names.join(", ")));
        }
        screen.title(&format!("service {}", service.name), &sockets)?;
        paragraph(screen, rows(ruleset, None, &service.given, MANY, None))?;
    }
    Ok(())
}

fn report(ruleset: &Ruleset, all: &Listeners) -> Report {
    let claims = |claims: &[Claim]| claims.iter().map(|claim| claim_report(ruleset, claim)).collect();
    let listener = |listener: &Listener| ListenerReport {
        socket: Socket::from(&listener.socket),
        receives: claims(&listener.kept),
        answers_pass: listener.answers_pass,
        service: listener.service.as_ref().map(ToString::to_string),
        drained: listener.drained.as_ref().map(draining::OfListener::from),
    };
    let service = |service: &ServiceTraffic| ServiceReport {
        name: service.name.to_string(),
        sockets: service.sockets,
        receiving: service.receiving,
        receives: claims(&service.given),
        only_on: service.only_on.iter().map(|device| device.name.clone()).collect(),
    };
    Report {
        listeners: all.listeners.iter().map(listener).collect(),
        services: all.services.iter().map(service).collect(),
    }
}

/// What a listener receives by its service.
fn by_service(ruleset: &Ruleset, all: &Listeners, listener: &Listener) -> Vec<Row> {
    let Some(name) = listener.service.as_ref().filter(|_| listener.socket.receiving) else { return Vec::new() };
    let socket = &listener.socket;
    let is_for = |claim: &&Claim| {
        let family = if claim.area.local.addr().is_ipv6() { socket.v6 } else { socket.v4 };
        family && claim.area.protocol == listener.bound.protocol
    };
    let service = all.services.iter().find(|service| service.name == *name);
    let given = service.iter().flat_map(|service| &service.given).filter(is_for);
    let given: Vec<Claim> = given.filter_map(|claim| on_device(claim, socket.device.as_ref())).collect();
    rows(ruleset, Some(&format!("service {name}")), &given, FEW, socket.device.as_ref())
}

/// That it is being drained, and what is left.
fn drained(drained: &Drained) -> Row {
    let service = drained.service.as_ref().map_or_else(|| "gone".to_owned(), |name| format!("service {name}"));
    ["drained".to_owned(), service, draining::words(&drained.left)]
}

/// What of a claim comes in where a socket receives.
fn on_device(claim: &Claim, device: Option<&Device>) -> Option<Claim> {
    let Some(device) = device else { return Some(claim.clone()) };
    let area = claim.area.intersection(&Area { ifindex: Some(device.index), ..claim.area })?;
    // Packets of a VRF come in on the VRF itself.
    device.vrf.is_none().then_some(())?;
    let except = claim.except.iter().filter_map(|except| except.intersection(&area)).collect();
    Some(Claim { area, except, ..claim.clone() })
}

/// The rows below a title. What a rule passes is received by the bind all the same.
fn paragraph(screen: &mut Screen<'_>, rows: Vec<Row>) -> Result<(), Failure> {
    let mut table = Table::default();
    let more = rows.len().saturating_sub(SHOWN);
    if rows.is_empty() {
        table.row(["nothing".to_owned(), String::new(), String::new()]);
    }
    rows.into_iter().take(SHOWN).for_each(|row| table.row(row));
    if more > 0 {
        table.row(["...".to_owned(), String::new(), format!("{} (all with --json)", counted(more, "more line"))]);
    }
    let columns = screen.columns();
    table.write_within(screen, INDENT, Some(columns))
}

/// A line for each claim, joined where they differ in one thing only: by what it is received (without that the
/// protocols), the ports, the addresses. Lines below it have its conditions and exceptions.
fn rows(ruleset: &Ruleset, by: Option<&str>, claims: &[Claim], named: usize, device: Option<&Device>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, joined) in join::claims(ruleset, claims).into_iter().enumerate() {
        let first = match by {
            None => list(&joined.protocols, ",", named),
            Some(by) if number == 0 => by.to_owned(),
            Some(_) => String::new(),
        };
        rows.push([first, list(&joined.ports, ",", named), list(&joined.locals, ", ", named)]);
        let mut below = |what: &str, text: String| rows.push([String::new(), what.to_owned(), text]);
        if !joined.sources.is_empty() {
            below("from", list(&joined.sources, ", ", named));
        }
        if let Some(index) = joined.ifindex {
            let bound = device.filter(|device| device.index == index);
            below("on", bound.map_or_else(|| interface(ruleset, index), |device| device.name.clone()));
        }
        if let Some(mark) = joined.mark {
            below("mark", mark.to_string());
        }
        if !joined.except.is_empty() {
            below("except", joined.except);
        }
    }
    rows
}

/// The first of some things, and how many more there are.
fn list(all: &[impl ToString], separator: &str, named: usize) -> String {
    let mut texts: Vec<String> = all.iter().take(named).map(ToString::to_string).collect();
    if all.len() > named {
        texts.push(format!("and {} more", grouped((all.len() - named) as u64)));
    }
    texts.join(separator)
}
