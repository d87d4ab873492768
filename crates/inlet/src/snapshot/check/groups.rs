//! SO_REUSEPORT groups: members that are in no service, and groups that have a program of their own, which is not
//! asked.

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::{Bound, ServiceName, Spread};

use super::selectors::{self, Selector};
use super::sockets::describe;
use super::{Checkup, Finding, Severity, Subject};
use crate::error::quoted;
use crate::kernel::{Capability, capability};
use crate::snapshot::Listener;
use crate::socket::SocketState;

const WHY: &str = "Inlet chooses among the sockets of a service, so a packet may reach another one than the program means \
    (QUIC connections that move to another address break)";

pub(super) fn check(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) {
    outside(subject, all, found);
    shared(subject, all, found);
    programs(subject, found);
}

/// Sockets that are bound as those of a service, and are not in it.
fn outside(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) {
    let mut groups: BTreeMap<Bound, (BTreeSet<&ServiceName>, Vec<&Listener>)> = BTreeMap::new();
    for listener in all {
        let (services, others) = groups.entry(listener.bound).or_default();
        match &listener.service {
            Some(service) => _ = services.insert(service),
            None => others.push(listener),
        }
    }
    let groups: Vec<(ServiceName, Vec<&Listener>)> = groups
        .into_values()
        .filter(|(_, others)| !others.is_empty())
        .filter_map(|(services, others)| Some(((*services.first()?).clone(), others)))
        .collect();
    found.add_each(&groups, |(service, others)| {
        let first = describe(&others[0].socket);
        let what = match others.len() {
            1 => format!("{first} is bound as a socket of service {service}, and is not in it"),
            count => {
                format!("{count} sockets, such as {first}, are bound as one of service {service}, and are not in it")
            }
        };
        let described = subject.ruleset.services().id(service.as_str());
        let described = described.and_then(|id| subject.ruleset.services().get(id)?.description.as_ref());
        let fix = match (described, others[0].socket.owners.first()) {
            (Some(_), _) => "inlet adopt, unless that is meant".to_owned(),
            (None, Some(owner)) => {
                format!("inlet register {} --pid {}, unless that is meant", quoted(service.as_str()), owner.pid)
            }
            (None, None) => format!("inlet register {} --pid PID, unless that is meant", quoted(service.as_str())),
        };
        let why = "rules give it nothing: only the sockets that a service has receive its packets".to_owned();
        Finding { severity: Severity::Note, code: "group-outside-service", what, why, fix }
    });
}

/// Groups that choose among their members, which are of two services.
fn shared(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) {
    let mut groups: BTreeMap<Bound, BTreeMap<&ServiceName, &Listener>> = BTreeMap::new();
    for listener in all {
        if let Some(service) = &listener.service {
            groups.entry(listener.bound).or_default().entry(service).or_insert(listener);
        }
    }
    let shared: Vec<_> = groups
        .into_values()
        .filter(|members| members.len() > 1)
        .filter_map(|members| Some((*members.keys().find(|name| is_spread_by_group(subject, name))?, members)))
        .collect();
    found.add_each(&shared, |(chooser, members)| {
        let (other, listener) =
            members.iter().find(|(name, _)| *name != chooser).unwrap_or_else(|| unreachable!("there are two"));
        Finding {
            severity: Severity::Error,
            code: "group-in-two-services",
            what: format!(
                "{} of service {other} is in a SO_REUSEPORT group that chooses for service {chooser}",
                describe(&listener.socket)
            ),
            why: format!("packets of {chooser} go to {other} too: the group chooses among all of its members"),
            fix: format!(
                "inlet service set {} --spread inlet, or bind the two to different addresses",
                quoted(chooser.as_str())
            ),
        }
    });
}

fn is_spread_by_group(subject: &Subject<'_>, name: &ServiceName) -> bool {
    let services = subject.ruleset.services();
    services.id(name.as_str()).and_then(|id| services.get(id)).is_some_and(|it| it.spread == Spread::Group)
}

/// Groups with a program of their own, which is not asked.
fn programs(subject: &Subject<'_>, found: &mut Checkup) {
    let services: Vec<(&ServiceName, Vec<SocketState>)> = subject
        .ruleset
        .services()
        .iter()
        .filter(|(_, service)| service.spread == Spread::Inlet)
        .map(|(_, service)| (&service.name, subject.receivers.states(service)))
        .filter(|(_, sockets)| !sockets.is_empty())
        .collect();
    if services.is_empty() {
        return;
    }
    if let Err(error) = capability::require("asking for programs of SO_REUSEPORT groups", &[Capability::SysAdmin]) {
        return found.unchecked.push(format!("whether SO_REUSEPORT groups have programs of their own: {error}"));
    }
    let of_maps = selectors::of_maps();
    for (service, sockets) in services {
        let chosen = sockets.iter().find_map(|socket| Some((socket, of_maps.get(&socket.cookie)?)));
        match chosen {
            Some((socket, selector)) => not_asked(service, socket, selector, found),
            None => hint(service, &sockets, found),
        }
    }
}

fn not_asked(service: &ServiceName, socket: &SocketState, selector: &Selector, found: &mut Checkup) {
    let Selector { id, name } = selector;
    let what = format!(
        "program {name:?} (id {id}) chooses {}, which service {service} has, and is not asked",
        describe(socket)
    );
    let fix = format!("inlet service set {} --spread group", quoted(service.as_str()));
    found.add(Severity::Warning, "reuseport-program-not-asked", what, WHY, fix);
}

/// A process with sockets of the service has a program open that chooses among sockets. Whether it is for these is not
/// known.
fn hint(service: &ServiceName, sockets: &[SocketState], found: &mut Checkup) {
    let owners: BTreeSet<_> = sockets.iter().flat_map(|socket| &socket.owners).collect();
    let with_program = |owner: &&crate::socket::Owner| !selectors::open_in(owner.pid).is_empty();
    let Some(owner) = owners.into_iter().find(with_program) else { return };
    let what = format!(
        "process {} ({}) has a program open that chooses among sockets, perhaps those of service {service}",
        owner.pid, owner.command
    );
    let fix = format!("if it is for these: inlet service set {} --spread group", quoted(service.as_str()));
    found.add(Severity::Note, "reuseport-program-maybe", what, WHY, fix);
}
