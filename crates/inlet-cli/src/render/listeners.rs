//! What sockets and services receive.

use inlet::core::{Claim, Ruleset};
use inlet::{Listener, Listeners, ServiceTraffic};
use serde::Serialize;

use super::Screen;
use super::area::{ClaimReport, and_more, area, claim_report, exceptions};
use super::socket::{self, Socket};
use super::table::Table;
use crate::failure::Failure;

/// How many claims are shown of a socket or a service.
const SHOWN: usize = 12;

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
    service: Option<String>,
}

#[derive(Serialize)]
struct ServiceReport {
    name: String,
    sockets: usize,
    receives: Vec<ClaimReport>,
}

pub(crate) fn listeners(screen: &mut Screen<'_>, ruleset: &Ruleset, all: &Listeners) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&report(ruleset, all));
    }
    let mut table = Table::headed(&["SOCKET", "OWNER", "RECEIVES", "EXCEPT", "BY"]);
    for listener in &all.listeners {
        let claims = of_listener(ruleset, all, listener);
        let [local, _, owner] = socket::words(&listener.socket);
        rows(&mut table, [local, owner], claims);
    }
    table.write(screen.out, 0, screen.palette.heading)?;
    if all.services.is_empty() {
        return Ok(());
    }
    writeln!(screen.out)?;
    let mut table = Table::headed(&["SERVICE", "SOCKETS", "RECEIVES", "EXCEPT", "BY"]);
    for service in &all.services {
        let claims = lines(ruleset, &service.given, "rule", true).collect();
        rows(&mut table, [service.name.to_string(), service.sockets.to_string()], claims);
    }
    Ok(table.write(screen.out, 0, screen.palette.heading)?)
}

fn report(ruleset: &Ruleset, all: &Listeners) -> Report {
    let claims = |claims: &[Claim]| claims.iter().map(|claim| claim_report(ruleset, claim)).collect();
    let listener = |listener: &Listener| ListenerReport {
        socket: Socket::from(&listener.socket),
        receives: claims(&listener.kept),
        service: listener.service.as_ref().map(ToString::to_string),
    };
    let service = |service: &ServiceTraffic| ServiceReport {
        name: service.name.to_string(),
        sockets: service.sockets,
        receives: claims(&service.given),
    };
    Report {
        listeners: all.listeners.iter().map(listener).collect(),
        services: all.services.iter().map(service).collect(),
    }
}

/// What a listener receives by its own address, and then by its service.
fn of_listener(ruleset: &Ruleset, all: &Listeners, listener: &Listener) -> Vec<[String; 3]> {
    let mut claims: Vec<[String; 3]> = lines(ruleset, &listener.kept, "bind", false).collect();
    let service = all.services.iter().find(|service| Some(&service.name) == listener.service.as_ref());
    if let Some(service) = service {
        let socket = &listener.socket;
        let is_for = |claim: &&Claim| {
            let family = if claim.area.local.is_v6() { socket.v6 } else { socket.v4 };
            family && claim.area.protocol == listener.bound.protocol
        };
        let given: Vec<Claim> = service.given.iter().filter(is_for).cloned().collect();
        claims.extend(lines(ruleset, &given, &format!("service {}", service.name), false));
    }
    claims
}

fn lines<'a>(
    ruleset: &'a Ruleset,
    claims: &'a [Claim],
    by: &'a str,
    with_protocol: bool,
) -> impl Iterator<Item = [String; 3]> + 'a {
    let line = move |claim: &Claim| {
        let protocol = if with_protocol { format!("{} ", claim.area.protocol) } else { String::new() };
        // What a rule passes is received by the bind all the same.
        [protocol + &area(ruleset, &claim.area), exceptions(ruleset, claim), by.to_owned()]
    };
    claims.iter().map(line)
}

fn rows(table: &mut Table, first: [String; 2], claims: Vec<[String; 3]>) {
    let [mut name, mut owner] = first;
    let more = claims.len().saturating_sub(SHOWN);
    if claims.is_empty() {
        table.row([
            std::mem::take(&mut name),
            std::mem::take(&mut owner),
            "nothing".to_owned(),
            String::new(),
            String::new(),
        ]);
    }
    for [receives, except, by] in claims.into_iter().take(SHOWN) {
        table.row([std::mem::take(&mut name), std::mem::take(&mut owner), receives, except, by]);
    }
    if more > 0 {
        table.row([String::new(), String::new(), and_more(more, "line"), String::new(), String::new()]);
    }
}
