//! Servers over UDP that name the source of their answers by IPV6_PKTINFO. The kernel takes only addresses of interfaces there
//! (EINVAL), unless the socket has IPV6_FREEBIND (ipv6(7)): of an address that is local by a route alone no answer leaves.

use std::collections::HashSet;

use inlet_core::{Prefix, Protocol, given};

use super::sockets::describe;
use super::{Checkup, Finding, Severity, Subject};
use crate::error::quoted;
use crate::socket::{SocketState, bound_to_interfaces};

const SYSCTL: &str = "net.ipv6.ip_nonlocal_bind";

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) {
    if may_bind_anywhere(subject) {
        return;
    }
    let mut cannot: Vec<(String, SocketState)> = Vec::new();
    for (id, service) in subject.ruleset.services().iter() {
        let by_route = |prefix: Prefix| prefix.addr().is_ipv6() && prefix.len() < 128;
        let claims = given(subject.ruleset, id);
        if !claims.iter().any(|claim| claim.area.protocol == Protocol::Udp && by_route(claim.area.local)) {
            continue;
        }
        let is_v6 = |socket: &SocketState| {
            let udp = socket.local.filter(|local| local.protocol() == Protocol::Udp);
            udp.is_some_and(|local| local.addr().is_ipv6())
        };
        let states = subject.receivers.states(service);
        let sockets: Vec<SocketState> = states.into_iter().filter(|it| it.receiving && is_v6(it)).collect();
        let cookies: HashSet<u64> = sockets.iter().map(|socket| socket.cookie).collect();
        let pids: HashSet<u32> = sockets.iter().flat_map(|socket| &socket.owners).map(|owner| owner.pid).collect();
        let mut refused: HashSet<u64> = HashSet::new();
        for pid in pids {
            match bound_to_interfaces(pid, &cookies) {
                Ok(told) => refused.extend(told.into_iter().filter(|(_, is)| *is).map(|(cookie, _)| cookie)),
                Err(error) => found.unchecked.push(format!(
                    "whether UDP sockets of service {} can answer by IPV6_PKTINFO: {error}",
                    service.name
                )),
            }
        }
        let those = sockets.into_iter().filter(|socket| refused.contains(&socket.cookie));
        cannot.extend(those.map(|socket| (service.name.to_string(), socket)));
    }
    found.add_each(&cannot, |(service, socket)| {
        let pid = socket.owners.first().map_or_else(|| "PID".to_owned(), |owner| owner.pid.to_string());
        Finding {
            severity: Severity::Error,
            code: "udp-answers-refused",
            what: format!("{} of service {service} answers by IPV6_PKTINFO, and has no IPV6_FREEBIND", describe(socket)),
            why: "the kernel refuses answers from addresses that are local by a route alone (EINVAL)".to_owned(),
            fix: format!(
                "inlet register {} --pid {pid}, which sets it; or in unbound ip-freebind: yes; or: sysctl -w {SYSCTL}=1",
                quoted(service)
            ),
        }
    });
}

/// Whether the namespace lets sockets have any address.
fn may_bind_anywhere(subject: &Subject<'_>) -> bool {
    let path = format!("/proc/sys/{}", SYSCTL.replace('.', "/"));
    let text = subject.location.netns().run(|| std::fs::read_to_string(&path)).ok().and_then(std::result::Result::ok);
    text.is_some_and(|text| text.trim() != "0")
}
