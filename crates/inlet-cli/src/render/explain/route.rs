//! The part of the routes in the story of a packet.

use inlet::rules::{Packet, Prefix};
use inlet::{Explanation, Mute, Reach, Routing, Unless};
use serde::Serialize;

use super::counted;

/// How many policy routing rules a note names.
const POLICIES: usize = 4;

#[derive(Serialize)]
pub(super) struct Address<'a> {
    local: bool,
    route: Option<String>,
    dropped: Option<&'a str>,
    policy_rules: &'a [String],
    exact: bool,
    unless: Vec<Otherwise<'a>>,
    answers: Option<bool>,
    model: Option<String>,
    unknown: &'a [String],
}

/// What decides otherwise about packets with what is not known of this one.
#[derive(Serialize)]
struct Otherwise<'a> {
    by: &'a str,
    local: Option<bool>,
}

pub(super) fn address(routing: &Routing) -> Address<'_> {
    let otherwise = |it: &'_ Unless| it.reach.as_ref().map(Reach::is_local);
    Address {
        local: routing.reach.is_local(),
        route: routing.reach.route().map(ToString::to_string),
        dropped: if let Reach::Dropped(by) = &routing.reach { Some(by) } else { None },
        policy_rules: &routing.policies,
        exact: routing.asked || routing.policies.is_empty(),
        unless: routing.unless.iter().map(|it| Otherwise { by: &it.by, local: otherwise(it) }).collect(),
        answers: routing.reach.is_local().then_some(routing.mute.is_none()),
        model: routing.model.as_ref().map(words),
        unknown: &routing.unknown,
    }
}

pub(super) fn rows(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let routing = &explanation.routing;
    let mut rows = vec![("address", words(&routing.reach))];
    rows.extend(routing.mute.as_ref().map(|mute| ("answer", silence(mute, &explanation.packet))));
    rows
}

fn words(reach: &Reach) -> String {
    match reach {
        Reach::Local(route) => format!("local, by the route: {route}"),
        Reach::Anycast(route) => format!("anycast, to which the kernel makes no TCP connection, by the route: {route}"),
        Reach::Several => "broadcast or multicast, which never gets to the rules".to_owned(),
        Reach::Elsewhere(route) => format!("not local here: the packet leaves by the route: {route}"),
        Reach::Dropped(by) => format!("not local here: the packet is dropped by {by}"),
        Reach::Nowhere => "not local here, and no route leads to it".to_owned(),
    }
}

/// Why the client gets no answer.
fn silence(mute: &Mute, packet: &Packet) -> String {
    let addr = packet.local.ip();
    match mute {
        Mute::Source => format!(
            "only by a socket with IP_TRANSPARENT, as {addr} is not local by the table `local`; make it so with: \
             ip route add local {} dev lo",
            Prefix::from(addr)
        ),
        Mute::NoWayBack => format!("none leaves: no route leads back to {}", packet.remote.ip()),
    }
}

pub(super) fn notes(explanation: &Explanation) -> Vec<String> {
    let routing = &explanation.routing;
    let mut notes = Vec::new();
    if !routing.policies.is_empty() {
        notes.push(policies(routing));
    }
    notes.extend(routing.unless.iter().take(POLICIES).map(otherwise));
    if let Some(model) = &routing.model {
        notes.push(format!(
            "inlet reads rules and routes otherwise than the kernel, and would say: {}; please report this",
            words(model)
        ));
    }
    notes.extend(
        routing.unknown.iter().take(POLICIES).map(|what| format!("inlet does not know {what}, and leaves it out")),
    );
    if matches!(routing.reach, Reach::Elsewhere(_) | Reach::Nowhere) {
        let addr = Prefix::from(explanation.packet.local.ip());
        let prefix = explanation.rule.map(|rule| rule.matching.local).filter(|local| local.len() > 0).unwrap_or(addr);
        notes.push(format!(
            "rules steer only what is for a local address; make it one with: ip route add local {prefix} dev lo"
        ));
    }
    notes
}

fn otherwise(unless: &Unless) -> String {
    let what = match &unless.reach {
        Some(reach) if reach.is_local() => "the address is local",
        Some(_) => "the address is not local",
        None => "the address may be another thing",
    };
    format!("{what} for packets for which this decides: {}", unless.by)
}

/// What policy routing has to do with it.
fn policies(routing: &Routing) -> String {
    let shown = routing.policies.iter().take(POLICIES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rules = format!("{} ({shown}", counted(routing.policies.len(), "policy routing rule"));
    let dots = if routing.policies.len() > POLICIES { ", ..." } else { "" };
    let address = match routing.asked {
        true => "the address is judged for this source and interface, and for a packet without a mark",
        false => "the address is judged by the destination alone; to have them count: --from SRC:PORT --iface NAME",
    };
    format!("there is policy routing, by {rules}{dots}): {address}")
}
