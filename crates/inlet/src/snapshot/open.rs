//! Descriptions that say nothing but an address: a socket of any local user fits, where any user can open one there.

use inlet_core::{Description, Listen, PortRange, Rule, Ruleset, Service, ServiceId, Verdict};

use super::Receivers;
use crate::error::quoted;
use crate::kernel::Netns;
use crate::socket::Stranger;

/// From this port on any user may open sockets, where the kernel does not say another one.
const UNPRIVILEGED: u16 = 1024;

/// The first port that any user of the namespace may open.
pub(super) fn unprivileged_from(netns: &Netns) -> u16 {
    let read = netns.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
    read.ok().and_then(|text| text.ok()?.trim().parse().ok()).unwrap_or(UNPRIVILEGED)
}

/// A described address at which any user can open a socket, unless the description says who is meant.
pub(super) fn open_address(description: &Description, start: u16) -> Option<Listen> {
    let is_open = |listen: &&Listen| listen.port().is_none_or(|port| port >= start);
    description.listen().iter().find(is_open).copied().filter(|_| description.is_open() && !description.anyone)
}

/// A rule that gives packets to a service: if there is one, a rule for ports that only privileged programs can open.
pub(super) fn given_by(ruleset: &Ruleset, service: ServiceId, start: u16) -> Option<Rule> {
    let mut any = None;
    for rule in ruleset.rules().filter(|rule| rule.verdict == Verdict::Service(service)) {
        if is_privileged(rule.matching.ports, start) {
            return Some(rule);
        }
        any.get_or_insert(rule);
    }
    any
}

pub(super) fn is_privileged(ports: PortRange, start: u16) -> bool {
    ports.first() < start
}

/// How to say whose sockets are meant: the user who has them now, if it is one.
pub(super) fn fix(service: &Service, description: &Description, receivers: &Receivers) -> String {
    let users = receivers.users(service);
    let user = users
        .first()
        .filter(|_| users.len() == 1)
        .map_or_else(|| "USER".to_owned(), |user| Stranger(*user).to_string());
    let listen: String =
        description.listen().iter().map(|listen| format!(" --listen {}", quoted(&listen.to_string()))).collect();
    let set = format!("inlet service set {}{listen}", quoted(service.name.as_str()));
    format!("{set} --user {user} (or --unit NAME.service, or --anyone if that is meant)")
}
