//! The services: those without sockets, without rules, and with sockets that receive nothing.

use inlet_core::{Confine, Description, Family, Kind, OnMissing, Protocol, Service, ServiceId};

use super::sockets::describe;
use super::{Checkup, Finding, Severity, Subject};
use crate::described::Reported;
use crate::error::quoted;
use crate::socket::{Listed, SocketState};

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) {
    not_adopted(subject, found);
    let wanted = subject.ruleset.kinds();
    for (id, service) in subject.ruleset.services().iter() {
        let kinds: Vec<Kind> = wanted.iter().filter(|kind| kind.service == id).copied().collect();
        if kinds.is_empty() {
            without_rules(subject, service, found);
        }
        let serves =
            |Kind { protocol, family, .. }: Kind| subject.receivers.has(service, protocol, family == Family::V6);
        let missing: Vec<Kind> = kinds.into_iter().filter(|kind| !serves(*kind)).collect();
        if !missing.is_empty() {
            without_sockets(subject, id, service, &missing, found);
        }
        let states = subject.receivers.states(service);
        for socket in &states {
            let Some((why, fix)) = socket.silence() else { continue };
            // Some servers connect a socket to each client, and open another for the next.
            let protocol = |it: &SocketState| it.local.map(|local| local.protocol());
            let has_other = states.iter().any(|it| it.receiving && protocol(it) == protocol(socket));
            let severity = if has_other { Severity::Note } else { Severity::Warning };
            let (who, name) = (describe(socket), &service.name);
            let what = match socket.peer {
                Some(peer) => format!("{who} of service {name} is connected to {peer}, and receives nothing by rules"),
                None => format!("{who} of service {name} receives nothing any more"),
            };
            found.add(severity, "socket-not-receiving", what, why, fix);
        }
    }
}

fn without_rules(subject: &Subject<'_>, service: &Service, found: &mut Checkup) {
    let fix = match subject.in_file {
        true => "take it out of the file, or give it rules".to_owned(),
        false => format!("inlet service rm {}", quoted(service.name.as_str())),
    };
    let what = format!("no rule names service {}", service.name);
    found.add(Severity::Note, "service-without-rules", what, "it receives nothing", fix);
}

fn without_sockets(subject: &Subject<'_>, id: ServiceId, service: &Service, missing: &[Kind], found: &mut Checkup) {
    let kinds: Vec<String> =
        missing.iter().map(|Kind { protocol, family, .. }| format!("{protocol} over {family}")).collect();
    let none = if subject.receivers.count(service) == 0 { "no live socket" } else { "no live socket of that kind" };
    let what = format!("service {} has rules for {}, and {none}", service.name, kinds.join(", "));
    let (severity, why) = match service.on_missing {
        // Of what is not in force yet nobody is refused.
        OnMissing::Refuse if !subject.in_file => (Severity::Error, "its packets are refused"),
        OnMissing::Refuse => (Severity::Warning, "once the file is applied its packets are refused"),
        OnMissing::Pass => (Severity::Warning, "its packets are left to the kernel's ordinary lookup"),
    };
    let states = subject.receivers.states(service);
    let is_missing = |protocol| missing.iter().any(|kind| kind.protocol == protocol);
    let mut its = states.iter().filter(|it| it.local.is_some_and(|local| is_missing(local.protocol())));
    let silence = its.find_map(SocketState::silence);
    let waits = |wanted: &&Reported| wanted.service == id && is_missing(wanted.endpoint.protocol());
    let fix = match &service.description {
        _ if let Some((_, fix)) = silence => fix.to_owned(),
        Some(_) if subject.waiting.iter().any(|it| waits(&it)) => adopt(missing.iter().map(|kind| kind.protocol)),
        Some(description) => match elsewhere(subject, service, description, missing) {
            Some(fix) => fix,
            None => format!("start a server that fits its description ({description})"),
        },
        None => format!("start its server, then: inlet register {} --pid PID", quoted(service.name.as_str())),
    };
    found.add(severity, "service-without-sockets", what, why, fix);
}

/// What to do when no socket is at a described address, but one is at that port by another address, such as 0.0.0.0 in
/// the place of `[::]`.
fn elsewhere(subject: &Subject<'_>, service: &Service, description: &Description, missing: &[Kind]) -> Option<String> {
    let sockets = &subject.receivers.sockets;
    let lacks = |protocol: Protocol| missing.iter().any(|kind| kind.protocol == protocol);
    let of_nobody = |listed: &&Listed| subject.receivers.owner(subject.ruleset, listed.cookie).is_none();
    let mut listens = description.listen().iter().filter(|listen| lacks(listen.protocol()));
    listens.find_map(|listen| {
        let port = listen.port()?;
        let other = sockets
            .at(listen.protocol(), port, port)
            .filter(of_nobody)
            .find(|it| !it.mptcp && !listen.matches(&sockets.endpoint(&it.bound)))?;
        let (found, at) = (sockets.describe_listed(other), sockets.endpoint(&other.bound));
        let others = description.listen().iter().filter(|it| *it != listen).map(ToString::to_string);
        let all: Vec<String> = others.chain([at.to_string()]).collect();
        let who = describe(&found);
        Some(match subject.in_file {
            true => format!("{who} is not at {listen}, which the description means; describe {at} in the file"),
            false => {
                let listen_all: String = all.iter().map(|it| format!(" --listen {}", quoted(it))).collect();
                let set =
                    format!("inlet service set {}{listen_all}{}", quoted(service.name.as_str()), narrowed(description));
                format!("{set} ({who} is not at {listen}, which the description means)")
            }
        })
    })
}

/// The arguments that narrow a description.
fn narrowed(description: &Description) -> String {
    let confine = match &description.confine {
        None => String::new(),
        Some(Confine::Unit(unit)) => format!(" --unit {}", quoted(unit.as_str())),
        Some(Confine::Cgroup(path)) => format!(" --cgroup {}", quoted(path.as_str())),
    };
    let user = description.user.as_ref().map_or_else(String::new, |user| format!(" --user {}", quoted(user.as_str())));
    confine + &user
}

/// Sockets that a description means and that their service does not have: of UDP those that nobody looked for since
/// they were bound, of TCP those that listened before their control group was known.
fn not_adopted(subject: &Subject<'_>, found: &mut Checkup) {
    found.add_each(subject.waiting, |wanted| {
        let name = subject.ruleset.services().get(wanted.service).map_or("?", |service| service.name.as_str());
        Finding {
            severity: Severity::Warning,
            code: "socket-not-adopted",
            what: format!("{} is described by service {name}, which does not have it", wanted.endpoint),
            why: "the service gives it no packets".to_owned(),
            fix: adopt(std::iter::once(wanted.endpoint.protocol())),
        }
    });
}

/// The command that brings sockets in that are there already, and the one for those to come.
fn adopt(mut protocols: impl Iterator<Item = Protocol>) -> String {
    match protocols.any(|protocol| protocol == Protocol::Udp) {
        true => "inlet adopt (or let this run, which finds those to come too: inlet watch)".to_owned(),
        false => "inlet adopt".to_owned(),
    }
}
