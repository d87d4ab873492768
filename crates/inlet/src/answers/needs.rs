//! What answers need, as the rules and services say it.

use inlet_core::{Answers, PortRange, Protocol, Ruleset, Service, ServiceId};

/// What the answers of a ruleset need, where there are any that leave from where they were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Whether the port asked may be another one than that of the socket.
    pub(crate) ports: bool,
    /// A service that insists on it: without it, answers leave from where sockets are bound when the host cannot do better.
    pub(crate) insists: Option<ServiceId>,
}

/// What the answers of a ruleset need; `None` when no rule of UDP leads to a service whose answers leave as asked.
pub(crate) fn needs(ruleset: &Ruleset) -> Option<Needs> {
    let mut needs = None;
    for (id, ports) in ruleset.udp_services() {
        let Some(service) = ruleset.services().get(id).filter(|it| it.answers != Some(Answers::Bound)) else {
            continue;
        };
        let needs = needs.get_or_insert(Needs { ports: false, insists: None });
        needs.ports |= port_may_differ(service, ports);
        needs.insists = needs.insists.or_else(|| (service.answers == Some(Answers::Asked)).then_some(id));
    }
    needs
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
