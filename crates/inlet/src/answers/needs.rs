//! What answers need, as the rules and services say it.

use inlet_core::{Answers, PortRange, Protocol, Ruleset, Service, ServiceId};

/// What the answers of a ruleset need: those of its services, and those to the host's own clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Whether there are any that leave from where they were asked.
    pub(crate) asked: bool,
    /// The ports at which rules take the answers to clients.
    pub(crate) clients: Vec<PortRange>,
    /// Whether the port asked may be another one than that of the socket.
    pub(crate) ports: bool,
    /// A service that insists on it: without it, answers leave from where sockets are bound when the host cannot do better.
    pub(crate) insists: Option<ServiceId>,
}

/// What the answers of a ruleset need; `None` when no rule of UDP leads to a service whose answers leave as asked, and none
/// takes answers to clients.
pub(crate) fn needs(ruleset: &Ruleset) -> Option<Needs> {
    let mut needs = Needs { clients: ruleset.ports_of_clients(), ..Needs::default() };
    for (id, ports) in ruleset.udp_services() {
        let Some(service) = ruleset.services().get(id).filter(|it| it.answers != Some(Answers::Bound)) else {
            continue;
        };
        needs.asked = true;
        needs.ports |= port_may_differ(service, ports);
        needs.insists = needs.insists.or_else(|| (service.answers == Some(Answers::Asked)).then_some(id));
    }
    (needs != Needs::default()).then_some(needs)
}

/// Whether a socket of the service may be bound to another port than the rule has. Of sockets that are registered by
/// hand nothing is known.
fn port_may_differ(service: &Service, ports: PortRange) -> bool {
    let is_this = |port| ports.width() == 1 && port == Some(ports.first());
    if service.has_own_binds() {
        return true;
    }
    let described = service.description.as_ref().map(|description| description.listen());
    let udp = described.map(|all| all.iter().filter(|listen| listen.protocol() == Protocol::Udp));
    !udp.is_some_and(|mut udp| udp.all(|listen| is_this(listen.port())))
}
