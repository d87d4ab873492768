//! Who serves: the sockets of a namespace, which service has which of them, and who receives a packet by a rule or,
//! where the rules leave it, by the kernel's ordinary lookup.

use std::collections::HashMap;

use inlet_core::{Listen, OnMissing, Packet, Protocol, Rule, Ruleset, Service, Verdict};

use crate::error::Result;
use crate::kernel::Netns;
use crate::socket::{LaneReader, Listed, LiveSocket, SocketState, Sockets};
use crate::state::Maps;

/// The sockets of a namespace and those of its services.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) sockets: Sockets,
    /// By name: a ruleset that is not in force may number its services in another way.
    services: HashMap<String, Live>,
}

/// What a service in force has.
#[derive(Debug, Default)]
struct Live {
    sockets: Vec<LiveSocket>,
    /// Whether one of them receives, by protocol and family.
    serves: [[bool; 2]; 2],
}

impl Receivers {
    /// Asks the kernel. `in_force` are the maps of the instance and its ruleset, when there is one.
    pub(crate) fn of(netns: &Netns, in_force: Option<(&Maps, &Ruleset)>) -> Result<Self> {
        let mut receivers = Self { sockets: Sockets::of(netns)?, services: HashMap::new() };
        let Some((maps, ruleset)) = in_force else { return Ok(receivers) };
        let lanes = LaneReader::of(maps, ruleset.services());
        for (id, service) in ruleset.services().iter() {
            let live = Live::of(lanes.live(id)?, &receivers.sockets);
            receivers.services.insert(service.name.to_string(), live);
        }
        Ok(receivers)
    }

    fn live(&self, service: &Service) -> Option<&Live> {
        self.services.get(service.name.as_str())
    }

    /// The live sockets of a service, with what the kernel and /proc know of each.
    pub(crate) fn states(&self, service: &Service) -> Vec<SocketState> {
        let live = self.live(service).map_or(&[][..], |live| &live.sockets);
        live.iter().map(|socket| self.sockets.describe(socket)).collect()
    }

    /// How many live sockets a service has.
    pub(crate) fn count(&self, service: &Service) -> usize {
        self.live(service).map_or(0, |live| live.sockets.len())
    }

    /// The service of a ruleset that has a socket.
    pub(crate) fn owner<'r>(&self, ruleset: &'r Ruleset, cookie: u64) -> Option<&'r Service> {
        let has = |live: &Live| live.sockets.iter().any(|socket| socket.cookie == cookie);
        ruleset.services().iter().map(|(_, service)| service).find(|service| self.live(service).is_some_and(has))
    }

    /// Whether a service has a socket that receives such packets.
    pub(crate) fn has(&self, service: &Service, protocol: Protocol, v6: bool) -> bool {
        self.live(service).is_some_and(|live| live.serves[usize::from(protocol == Protocol::Udp)][usize::from(v6)])
    }

    /// Whether a service has a socket for such packets, or will have one by its description.
    pub(crate) fn serves(&self, service: &Service, protocol: Protocol, v6: bool) -> bool {
        self.has(service, protocol, v6) || self.described(service, protocol, v6).next().is_some()
    }

    /// Whether a rule takes packets from the kernel's ordinary lookup as things are.
    pub(crate) fn takes(&self, ruleset: &Ruleset, rule: &Rule) -> bool {
        match rule.verdict {
            Verdict::Pass => false,
            Verdict::Refuse => true,
            Verdict::Service(id) => ruleset.services().get(id).is_none_or(|service| {
                let refuses = service.on_missing == OnMissing::Refuse;
                refuses || self.has(service, rule.matching.protocol, rule.matching.local.is_v6())
            }),
        }
    }

    /// Whether rules can give it packets: a service has it, or describes it.
    pub(crate) fn is_of_a_service(&self, listed: &Listed, ruleset: &Ruleset) -> bool {
        let has = |service: &Service, v6: bool| {
            self.of_service(service, listed.bound.protocol, v6).any(|it| it.cookie == listed.cookie)
        };
        ruleset.services().iter().any(|(_, service)| has(service, false) || has(service, true))
    }

    /// The sockets of a service for such packets: those that it has, and those that its description means.
    fn of_service(&self, service: &Service, protocol: Protocol, v6: bool) -> impl Iterator<Item = Listed> {
        let live = self.live(service).map_or(&[][..], |live| &live.sockets);
        let of_family = move |socket: &&LiveSocket| if v6 { socket.v6 } else { socket.v4 };
        let listed = live.iter().filter(of_family).filter_map(|socket| self.sockets.get(socket.cookie));
        let had = listed.filter(move |it| it.bound.protocol == protocol && it.receiving);
        had.chain(self.described(service, protocol, v6))
    }

    /// The sockets that a description means.
    fn described(&self, service: &Service, protocol: Protocol, v6: bool) -> impl Iterator<Item = Listed> {
        let listen = service.description.iter().flat_map(|description| description.listen());
        listen.filter(move |listen| listen.protocol() == protocol).flat_map(move |listen| {
            let (first, last) = listen.port().map_or((1, u16::MAX), |port| (port, port));
            self.sockets.at(protocol, first, last).filter(move |it| fits(it, listen, v6)).copied()
        })
    }

    /// The sockets of which one receives the packet when this rule decides, or none does.
    pub(crate) fn of_packet(&self, ruleset: &Ruleset, rule: Option<Rule>, packet: &Packet) -> Vec<Listed> {
        let service = match rule.map(|rule| rule.verdict) {
            None | Some(Verdict::Pass) => return self.sockets.ordinary(packet),
            Some(Verdict::Refuse) => return Vec::new(),
            Some(Verdict::Service(id)) => ruleset.services().get(id),
        };
        let Some(service) = service else { return Vec::new() };
        let found: Vec<Listed> = self.of_service(service, packet.protocol, packet.local.is_ipv6()).collect();
        match found.is_empty() && service.on_missing == OnMissing::Pass {
            true => self.sockets.ordinary(packet),
            false => found,
        }
    }
}

impl Live {
    fn of(sockets: Vec<LiveSocket>, listed: &Sockets) -> Self {
        let mut live = Self { sockets, ..Self::default() };
        for socket in &live.sockets {
            if let Some(listed) = listed.get(socket.cookie).filter(|listed| listed.receiving) {
                let serves = &mut live.serves[usize::from(listed.bound.protocol == Protocol::Udp)];
                *serves = [serves[0] || socket.v4, serves[1] || socket.v6];
            }
        }
        live
    }
}

/// Whether a service that is described so will have the listener for packets of a family, as far as its address tells.
fn fits(listed: &Listed, listen: &Listen, v6: bool) -> bool {
    let of_family = listed.bound.locals().iter().any(|local| local.is_v6() == v6);
    of_family && !listed.mptcp && listen.matches(listed.bound.protocol, listed.bound.addr)
}
