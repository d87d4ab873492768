//! The services: those without sockets, without rules, and with sockets that receive nothing.

use inlet_core::{Family, Kind, OnMissing, Protocol, Service, ServiceId};

use super::{Checkup, Finding, Severity, Subject};
use crate::described::Reported;
use crate::error::quoted;

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) {
    not_adopted(subject, found);
    let wanted = subject.ruleset.kinds();
    for (id, service) in subject.ruleset.services().iter() {
        let kinds: Vec<Kind> = wanted.iter().filter(|kind| kind.service == id).copied().collect();
        if kinds.is_empty() {
            without_rules(subject, service, found);
        }
        let serves = |Kind { protocol, family, .. }: Kind| match subject.in_file {
            // Once the file is applied it has what its description means.
            true => subject.receivers.serves(service, protocol, family == Family::V6),
            false => subject.receivers.has(service, protocol, family == Family::V6),
        };
        let missing: Vec<Kind> = kinds.into_iter().filter(|kind| !serves(*kind)).collect();
        if !missing.is_empty() {
            without_sockets(subject, id, service, &missing, found);
        }
        for socket in subject.receivers.states(service).iter().filter(|socket| !socket.receiving) {
            let local = socket.local.map_or_else(|| "a socket".to_owned(), |local| local.to_string());
            let what = format!("{local} of service {} receives nothing any more", service.name);
            let why = "it is connected or does not listen, and the kernel refuses to give it packets";
            found.add(
                Severity::Warning,
                "socket-not-receiving",
                what,
                why,
                format!("inlet unregister {}", quoted(service.name.as_str())),
            );
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
    let waits =
        |wanted: &&Reported| wanted.service == id && missing.iter().any(|it| it.protocol == wanted.endpoint.protocol());
    let fix = match &service.description {
        Some(_) if subject.waiting.iter().any(|it| waits(&it)) => adopt(missing.iter().map(|kind| kind.protocol)),
        Some(description) => format!("start a server that fits its description ({description})"),
        None => format!("start its server, then: inlet register {} --pid PID", quoted(service.name.as_str())),
    };
    found.add(severity, "service-without-sockets", what, why, fix);
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
