//! Other users of the host: whether one of them could get the packets of a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::{AddrRange, Area, Packet, Protocol, Service, ServiceId, Verdict, given, lookup};

use super::{Checkup, Finding, Severity, Subject};
use crate::kernel::Netns;
use crate::snapshot::open;
use crate::socket::Stranger;

pub(super) fn check(subject: &Subject<'_>, netns: &Netns, found: &mut Checkup) {
    let start = open::unprivileged_from(netns);
    for (id, service) in subject.ruleset.services().iter() {
        open_to_anyone(subject, (id, service), start, found);
        several_users(subject, service, found);
    }
    connected(subject, found);
}

/// A description that a socket of any user fits, at a port that any user can open. It matters most where the service
/// gets packets for ports that only privileged programs can open.
fn open_to_anyone(subject: &Subject<'_>, (id, service): (ServiceId, &Service), start: u16, found: &mut Checkup) {
    let Some(description) = &service.description else { return };
    let Some(listen) = open::open_address(description, start) else { return };
    let claims = given(subject.ruleset, id);
    let privileged = claims.iter().find(|claim| open::is_privileged(claim.area.ports, start));
    let Some(claim) = privileged.or(claims.first()) else { return };
    let (severity, why) = match privileged {
        Some(_) => (Severity::Warning, "its rules are for ports that only privileged programs can open"),
        None => (Severity::Note, "nothing but the address tells the sockets of its server from those of others"),
    };
    let what = format!("any local user can listen on {listen} and so receive {}", packets(&claim.area));
    found.add(severity, "open-to-anyone", what, why, open::fix(service, description, subject.receivers));
}

/// `198.51.100.10:443`, `[2001:db8::/64]:80-90`
fn packets(area: &Area) -> String {
    let local = AddrRange::from(area.local);
    if area.local.is_v6() { format!("[{local}]:{}", area.ports) } else { format!("{local}:{}", area.ports) }
}

/// A service whose sockets belong to several users: each gets a part of its packets.
fn several_users(subject: &Subject<'_>, service: &Service, found: &mut Checkup) {
    let users = subject.receivers.users(service);
    if users.len() < 2 {
        return;
    }
    let names: Vec<String> = users.iter().map(|user| Stranger(*user).to_string()).collect();
    let what = format!("the sockets of service {} belong to users {}", service.name, names.join(" and "));
    let fix = Stranger::remedy(service.name.as_str());
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
