//! Who receives a packet now, and who would under another ruleset: the sockets of services, and for what is left to it the
//! kernel's ordinary lookup.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::{
    AddrRange, Arrival, Listen, Moved, OnMissing, Packet, Prefix, Protocol, Rule, Ruleset, Service, Verdict,
};

use crate::error::Result;
use crate::kernel::Netns;
use crate::route::RouteTable;
use crate::socket::{LaneReader, Listed, LiveSocket, Sockets};
use crate::state::Maps;

/// So many addresses of a range are tried: on some of them a more specific listener may receive.
const TRIES: usize = 32;

/// The sockets of a namespace, those of its services, and the addresses that are local.
pub(crate) struct Receivers {
    pub(crate) sockets: Sockets,
    by_port: BTreeMap<(Protocol, u16), Vec<Listed>>,
    /// By the name of the service.
    live: BTreeMap<String, Vec<LiveSocket>>,
    locals: Vec<AddrRange>,
}

impl Receivers {
    /// Asks the kernel. `in_force` is the ruleset that is.
    pub(crate) fn of(netns: &Netns, maps: &Maps, in_force: &Ruleset) -> Result<Self> {
        let sockets = Sockets::of(netns)?;
        let mut by_port: BTreeMap<(Protocol, u16), Vec<Listed>> = BTreeMap::new();
        for listed in sockets.receiving() {
            by_port.entry((listed.bound.protocol, listed.bound.addr.port())).or_default().push(listed);
        }
        let lanes = LaneReader::of(maps, in_force.services());
        let live = |(id, service): (_, &Service)| Ok((service.name.to_string(), lanes.live(id)?));
        let live = in_force.services().iter().map(live).collect::<Result<_>>()?;
        let routes = RouteTable::of(netns)?.list()?;
        let locals = routes.iter().filter(|route| route.makes_local()).map(|route| route.prefix.into()).collect();
        Ok(Self { sockets, by_port, live, locals })
    }

    /// The prefixes that are local.
    pub(crate) fn local_prefixes(&self) -> Vec<Prefix> {
        self.locals.iter().filter_map(AddrRange::prefix).collect()
    }

    /// Those that receive on some of these ports by their own address.
    pub(crate) fn at(&self, protocol: Protocol, first: u16, last: u16) -> impl Iterator<Item = &Listed> {
        self.by_port.range((protocol, first)..=(protocol, last)).flat_map(|(_, listed)| listed)
    }

    /// Whether a service has a socket for such packets, or will have one by its description.
    pub(crate) fn serves(&self, service: &Service, protocol: Protocol, v6: bool) -> bool {
        !self.of_service(service, protocol, v6).is_empty()
    }

    /// Whether rules can give it packets: a service has it, or describes it.
    pub(crate) fn is_of_a_service(&self, listed: &Listed, ruleset: &Ruleset) -> bool {
        let has = |service: &Service, v6: bool| {
            self.of_service(service, listed.bound.protocol, v6).iter().any(|it| it.cookie == listed.cookie)
        };
        ruleset.services().iter().any(|(_, service)| has(service, false) || has(service, true))
    }

    fn of_service(&self, service: &Service, protocol: Protocol, v6: bool) -> Vec<Listed> {
        let live = self.live.get(service.name.as_str()).map_or(&[][..], Vec::as_slice);
        let of_family = |socket: &&LiveSocket| if v6 { socket.v6 } else { socket.v4 };
        let listed = live.iter().filter(of_family).filter_map(|socket| self.sockets.get(socket.cookie));
        let mut found: Vec<Listed> = listed.filter(|it| it.bound.protocol == protocol && it.receiving).collect();
        if let Some(description) = &service.description {
            let described =
                description.listen().iter().filter(|listen| listen.protocol() == protocol).flat_map(|listen| {
                    let (first, last) = listen.port().map_or((1, u16::MAX), |port| (port, port));
                    let at = self.at(protocol, first, last);
                    at.filter(|it| fits(it, listen, v6))
                });
            found.extend(described);
        }
        found
    }

    /// The sockets of which one receives the packet when this rule decides, or none does.
    pub(crate) fn of_packet(&self, ruleset: &Ruleset, rule: Option<Rule>, packet: &Packet) -> Vec<Listed> {
        let service = match rule.map(|rule| rule.verdict) {
            None | Some(Verdict::Pass) => return self.ordinary(packet),
            Some(Verdict::Refuse) => return Vec::new(),
            Some(Verdict::Service(id)) => ruleset.services().get(id),
        };
        let Some(service) = service else { return Vec::new() };
        match self.of_service(service, packet.protocol, packet.local.is_ipv6()) {
            none if none.is_empty() && service.on_missing == OnMissing::Pass => self.ordinary(packet),
            found => found,
        }
    }

    fn ordinary(&self, packet: &Packet) -> Vec<Listed> {
        let port = packet.local.port();
        let mut fit: Vec<Listed> =
            self.at(packet.protocol, port, port).filter(|it| it.bound.rank(packet).is_some()).copied().collect();
        let best = fit.iter().map(|listed| listed.bound.rank(packet)).max().flatten();
        fit.retain(|listed| listed.bound.rank(packet) == best);
        fit
    }

    /// A packet of those that move which a socket receives now and would not any more: to an address that is local, and
    /// which no other socket receives.
    pub(crate) fn lost(&self, socket: &Listed, moved: &Moved, old: &Ruleset, new: &Ruleset) -> Option<Packet> {
        let has = |ruleset: &Ruleset, rule: Option<Rule>, packet: &Packet| {
            self.of_packet(ruleset, rule, packet).iter().any(|it| it.cookie == socket.cookie)
        };
        let is_lost = |packet: &Packet| has(old, moved.old, packet) && !has(new, moved.new, packet);
        let own = socket.bound.addr.port();
        let port = if moved.ports.contains(own) { own } else { moved.ports.first() };
        let ranges = self.locals.iter().filter_map(|local| local.intersection(&moved.local));
        let packets = ranges.flat_map(addresses).filter_map(|addr| packet(socket, moved, addr, port));
        packets.into_iter().find(is_lost)
    }
}

/// Whether a service that is described so will have the listener for packets of a family, as far as its address tells.
pub(crate) fn fits(listed: &Listed, listen: &Listen, v6: bool) -> bool {
    let of_family = listed.bound.locals().iter().any(|local| local.is_v6() == v6);
    of_family && !listed.mptcp && listen.matches(listed.bound.protocol, listed.bound.addr)
}

/// The first addresses of a range.
fn addresses(range: AddrRange) -> impl Iterator<Item = IpAddr> {
    let next = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    };
    std::iter::successors(Some(range.first()), next).take_while(move |addr| range.contains(*addr)).take(TRIES)
}

/// A packet to this address that is one of those that move and comes in where the socket could receive it.
fn packet(socket: &Listed, moved: &Moved, addr: IpAddr, port: u16) -> Option<Packet> {
    let anywhere: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let remote = moved.source.map_or(anywhere, |source| source.first());
    let ifindex = match &moved.arrival {
        Arrival::On(index) => *index,
        Arrival::Any | Arrival::NotOn(_) => socket.bound.device,
    };
    let (local, remote) = (SocketAddr::new(addr, port), SocketAddr::new(remote, 0));
    moved.arrival.contains(ifindex).then_some(Packet { protocol: moved.protocol, local, remote, ifindex })
}
