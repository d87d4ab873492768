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
    /// Services whose description has nothing but the one port that is asked. Sockets at other ports may have been registered
    /// by hand.
    pub(crate) at_one_port: Vec<(ServiceId, u16)>,
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
        match only_port(service, ports) {
            Some(port) => needs.at_one_port.push((id, port)),
            None => needs.ports = true,
        }
        needs.insists = needs.insists.or_else(|| (service.answers == Some(Answers::Asked)).then_some(id));
    }
    (needs != Needs::default()).then_some(needs)
}

/// The port of a rule, when it has one alone and described sockets of the service are at no other. Without a description all
/// sockets are registered by hand, at any port.
fn only_port(service: &Service, ports: PortRange) -> Option<u16> {
    let description = service.description.as_ref().filter(|_| !service.has_own_binds() && ports.width() == 1)?;
    let mut udp = description.listen().iter().filter(|listen| listen.protocol() == Protocol::Udp);
    udp.all(|listen| listen.port() == Some(ports.first())).then_some(ports.first())
}
