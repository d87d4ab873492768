//! What a listener loses when another ruleset comes into force.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::{AddrRange, Arrival, Moved, Packet, Prefix, Rule, Ruleset};

use super::receivers::Receivers;
use crate::error::Result;
use crate::kernel::Netns;
use crate::route::RouteTable;
use crate::socket::Listed;

/// So many addresses of a range are tried: on some of them a more specific listener may receive.
const TRIES: usize = 32;

/// The step from one ruleset to another, as listeners see it.
pub(crate) struct Losses<'a> {
    pub(crate) receivers: &'a Receivers,
    pub(crate) old: &'a Ruleset,
    pub(crate) new: &'a Ruleset,
    /// The addresses that are local: other packets reach no socket.
    locals: Vec<AddrRange>,
    /// The prefixes that hold them.
    prefixes: Vec<Prefix>,
}

impl<'a> Losses<'a> {
    /// Asks which addresses are local.
    pub(crate) fn between(netns: &Netns, receivers: &'a Receivers, old: &'a Ruleset, new: &'a Ruleset) -> Result<Self> {
        let (locals, prefixes) = RouteTable::of(netns)?.model()?.locals();
        Ok(Self { receivers, old, new, locals, prefixes })
    }

    /// The prefixes that are local, as a whole or in part.
    pub(crate) fn local_prefixes(&self) -> Vec<Prefix> {
        self.prefixes.clone()
    }

    /// A packet of those that move which a socket receives now and would not any more: to an address that is local, and
    /// which no other socket receives.
    pub(crate) fn lost(&self, socket: &Listed, moved: &Moved) -> Option<Packet> {
        let has = |ruleset: &Ruleset, rule: Option<Rule>, packet: &Packet| {
            self.receivers.of_packet(ruleset, rule, packet).iter().any(|it| it.cookie == socket.cookie)
        };
        let is_lost = |packet: &Packet| has(self.old, moved.previous, packet) && !has(self.new, moved.new, packet);
        let own = socket.bound.addr.port();
        let port = if moved.ports.contains(own) { own } else { moved.ports.first() };
        let ranges = self.locals.iter().filter_map(|local| local.intersection(&moved.local));
        let packets = ranges.flat_map(addresses).filter_map(|addr| packet(socket, moved, addr, port));
        packets.into_iter().find(is_lost)
    }
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
