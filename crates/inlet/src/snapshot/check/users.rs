//! Other users of the host: whether one of them could get the packets of a service.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::{Listen, Packet, Protocol, Service, ServiceId, Verdict, given, lookup};

use super::{Checkup, Finding, Severity, Subject};
use crate::error::quoted;
use crate::kernel::Netns;

/// From this port on any user may open sockets, where the kernel does not say another one.
const UNPRIVILEGED: u16 = 1024;

pub(super) fn check(subject: &Subject<'_>, netns: &Netns, found: &mut Checkup) {
    let start = unprivileged_from(netns);
    for (id, service) in subject.ruleset.services().iter() {
        open_to_anyone(subject, (id, service), start, found);
        several_users(subject, service, found);
    }
    connected(subject, found);
}

fn unprivileged_from(netns: &Netns) -> u16 {
    let read = netns.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
    read.ok().and_then(|text| text.ok()?.trim().parse().ok()).unwrap_or(UNPRIVILEGED)
}

/// A service that gets packets for ports that only privileged programs can open, by a description that a socket of any
/// user fits. A port that the user of the description needs a privilege for is one that others cannot open either.
fn open_to_anyone(subject: &Subject<'_>, (id, service): (ServiceId, &Service), start: u16, found: &mut Checkup) {
    let Some(description) = &service.description else { return };
    let is_open = |listen: &&Listen| listen.port().is_none_or(|port| port >= start);
    let open = description.listen().iter().find(is_open);
    let Some(listen) = open.filter(|_| description.user.is_none() && description.confine.is_none()) else { return };
    if !given(subject.ruleset, id).iter().any(|claim| claim.area.ports.first() < start) {
        return;
    }
    let name = quoted(service.name.as_str());
    found.add(
        Severity::Warning,
        "open-to-anyone",
        format!("any local user can open a socket that service {} gets ({listen})", service.name),
        "its rules are for ports that only privileged programs can open",
        format!("name the user or the unit of its server: inlet service set {name} --listen {listen} --user USER"),
    );
}

/// A service whose sockets belong to several users: each gets a part of its packets.
fn several_users(subject: &Subject<'_>, service: &Service, found: &mut Checkup) {
    let states = subject.receivers.states(service);
    let users: BTreeSet<u32> = states.iter().filter_map(|socket| socket.user).collect();
    if users.len() < 2 {
        return;
    }
    let numbers: Vec<String> = users.iter().map(u32::to_string).collect();
    let what = format!("the sockets of service {} belong to users {}", service.name, numbers.join(" and "));
    let fix = format!(
        "take those out that should not be there: inlet unregister {} --pid PID",
        quoted(service.name.as_str())
    );
    found.add(Severity::Warning, "sockets-of-several-users", what, "each user gets a part of its packets", fix);
}

/// UDP sockets of others that are connected from an address that rules give to a service: the kernel gives them the
/// datagrams of their peer, and asks no rule.
fn connected(subject: &Subject<'_>, found: &mut Checkup) {
    let taken = subject.receivers.sockets.connected().into_iter().filter_map(|listed| {
        let local = SocketAddr::new(listed.bound.addr.ip().to_canonical(), listed.bound.addr.port());
        let any: IpAddr = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let packet = Packet::new(Protocol::Udp, local, SocketAddr::new(any, 0));
        let Verdict::Service(id) = lookup(subject.ruleset, &packet)?.verdict else { return None };
        let service = subject.ruleset.services().get(id)?;
        let is_its_own =
            subject.receivers.owner(subject.ruleset, listed.cookie).is_some_and(|it| it.name == service.name);
        (!is_its_own).then_some((listed, service))
    });
    let taken: Vec<_> = taken.collect();
    found.add_each(&taken, |(listed, service)| Finding {
        severity: Severity::Note,
        code: "udp-connected",
        what: format!(
            "{} is connected from an address of service {}",
            super::sockets::describe(&subject.receivers.sockets.describe_listed(listed)),
            service.name
        ),
        why: "the kernel gives it the datagrams of its peer, and asks no rule".to_owned(),
        fix: "nothing, if it is the server's own; else end the program".to_owned(),
    });
}
