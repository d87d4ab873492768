//! Listeners from which rules take all or some of what they receive without Inlet, named exactly.

use std::collections::HashMap;
use std::ops::ControlFlow;

use inlet_core::{Area, Arrival, Marks, Moved, PortRange, Prefix, Protocol, Rule, Ruleset, traffic_at};

use super::sockets::{client_ports, describe};
use super::{Checkup, Finding, Severity, Subject};
use crate::error::Result;
use crate::snapshot::listeners::keeps_all;
use crate::snapshot::losses::add_joined;
use crate::snapshot::{Listener, Losses};

/// How many areas a finding names.
const NAMED: usize = 8;

/// Finds them, where no service gives it back.
pub(super) fn check(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) -> Result<()> {
    let nothing = Ruleset::empty();
    let netns = subject.location.netns();
    let losses = Losses::between(netns, [subject.receivers, subject.receivers], [&nothing, subject.ruleset])?;
    let mut by_port: HashMap<(Protocol, u16), Vec<Moved>> = HashMap::new();
    let listeners = all.iter().filter(|listener| loses(subject, listener));
    let listeners = listeners.filter_map(|listener| {
        let at = (listener.bound.protocol, listener.bound.addr.port());
        let moved = by_port.entry(at).or_insert_with(|| decided(subject.ruleset, at));
        let listed = subject.receivers.sockets.get(listener.socket.cookie)?;
        let mut lost = Vec::new();
        moved.iter().flat_map(|it| losses.parts(&listed, it)).for_each(|part| add_joined(&mut lost, part.moved));
        (!lost.is_empty()).then_some((listener, lost))
    });
    let listeners: Vec<(&Listener, Vec<Moved>)> = listeners.collect();
    let (locals, clients) = (losses.local_prefixes(), client_ports(subject));
    found.add_each(&listeners, |(listener, lost)| finding(subject, listener, lost, &locals, clients));
    Ok(())
}

/// Whether rules can take anything from it.
fn loses(subject: &Subject<'_>, listener: &Listener) -> bool {
    let keeps = keeps_all(&listener.bound, &listener.kept);
    listener.service.is_none() && !keeps && takers(subject, listener).next().is_some()
}

/// The packets to a port about which rules decide.
fn decided(ruleset: &Ruleset, (protocol, port): (Protocol, u16)) -> Vec<Moved> {
    let mut all = Vec::new();
    let _ = traffic_at(&Ruleset::empty(), ruleset, protocol, port, &mut |moved| {
        all.push(moved);
        ControlFlow::Continue(())
    });
    all
}

fn finding(
    subject: &Subject<'_>,
    listener: &Listener,
    lost: &[Moved],
    locals: &[Prefix],
    clients: Option<PortRange>,
) -> Finding {
    let outside = |local: &&Prefix| !listener.bound.is_wildcard() || !local.addr().is_loopback();
    let reached: Vec<&Prefix> = locals.iter().filter(outside).collect();
    let keeps = |local: &&Prefix| listener.kept.iter().any(|claim| claim.reaches(local));
    let nothing = !reached.is_empty() && !reached.iter().any(keeps) || listener.kept.is_empty();
    let who = describe(&listener.socket);
    let by = lost.first().and_then(|moved| moved.new);
    let by = by.map_or_else(String::new, |rule| format!(", such as `{}`", subject.ruleset.named(&rule)));
    let areas = areas(subject.ruleset, lost);
    // A socket that did not ask for its port is a client's, and a client has what it needs.
    let is_client = listener.answers_pass && clients.is_some_and(|ports| ports.contains(listener.bound.addr.port()));
    Finding {
        severity: if nothing && !is_client { Severity::Warning } else { Severity::Note },
        code: if nothing { "listener-shadowed" } else { "listener-receives-less" },
        what: match (nothing, listener.answers_pass) {
            (true, true) => format!("{who} receives from outside only answers to what it sent, and loses {areas}"),
            (true, false) => format!("{who} receives nothing from outside any more, and loses {areas}"),
            (false, true) => format!("{who} loses {areas}, but for answers to what it sent"),
            (false, false) => format!("{who} loses {areas}"),
        },
        why: format!("rules take these packets{by}"),
        fix: match is_client {
            true => "nothing for a client, such as a resolver; to leave a server some: inlet bind --pass PROTOCOL PREFIX PORT",
            false => "see what is left with: inlet listeners; to leave it some: inlet bind --pass PROTOCOL PREFIX PORT",
        }
        .to_owned(),
    }
}

/// `192.0.2.0/24, 198.51.100.7 from 203.0.113.0/24`
fn areas(ruleset: &Ruleset, lost: &[Moved]) -> String {
    let name = |index: &u32| {
        let known = ruleset.interfaces().iter().find(|interface| interface.index == *index);
        known.map_or_else(|| format!("interface {index}"), |interface| interface.name.to_string())
    };
    let text = |moved: &Moved| {
        let source = moved.source.map_or_else(String::new, |source| format!(" from {source}"));
        let arrival = match &moved.arrival {
            Arrival::Any => String::new(),
            Arrival::On(index) => format!(" on {}", name(index)),
            Arrival::NotOn(indexes) => format!(" not on {}", indexes.iter().map(name).collect::<Vec<_>>().join(",")),
        };
        let marks = match &moved.marks {
            Marks::Any => String::new(),
            marks => format!(" {marks}"),
        };
        format!("{}{source}{arrival}{marks}", moved.local)
    };
    let mut texts: Vec<String> = lost.iter().take(NAMED).map(text).collect();
    if lost.len() > NAMED {
        texts.push(format!("and {} more", lost.len() - NAMED));
    }
    texts.join(", ")
}

/// The rules that take packets from what a listener is bound to.
fn takers<'a>(subject: &'a Subject<'_>, listener: &Listener) -> impl Iterator<Item = Rule> + 'a {
    let port = listener.bound.addr.port();
    let ports = PortRange::new(port, port).unwrap_or(PortRange::ANY);
    let areas = listener.bound.areas();
    let meets = move |rule: &Rule| {
        let area = Area::of(subject.ruleset, &rule.matching);
        area.is_some_and(|area| areas.iter().any(|own| own.intersection(&area).is_some()))
    };
    let takes = move |rule: &Rule| subject.receivers.takes(subject.ruleset, rule) && meets(rule);
    subject.ruleset.rules_for(listener.bound.protocol, ports).filter(takes)
}
