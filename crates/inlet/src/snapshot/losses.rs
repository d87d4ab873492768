//! What a listener loses when another ruleset comes into force: exactly the packets that it receives now and would not
//! any more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::{
    AddrRange, Arrival, Marks, Moved, Packet, Plan, PortRange, Prefix, PrefixSet, Rule, Ruleset, Verdict,
};

use super::receivers::Receivers;
use crate::error::Result;
use crate::kernel::Netns;
use crate::route::RouteTable;
use crate::socket::Listed;

/// The step from one ruleset to another, as listeners see it.
pub(crate) struct Losses<'a> {
    /// Who serves now, and who would.
    pub(crate) now: &'a Receivers,
    pub(crate) then: &'a Receivers,
    pub(crate) old: &'a Ruleset,
    pub(crate) new: &'a Ruleset,
    /// The addresses that are local: other packets reach no socket.
    locals: Vec<AddrRange>,
    /// The prefixes that hold them.
    prefixes: Vec<Prefix>,
}

/// Packets that one listener loses: those of a move to addresses and ports that it receives, and one of them.
pub(crate) struct Lost {
    pub(crate) moved: Moved,
    pub(crate) packet: Packet,
}

impl<'a> Losses<'a> {
    /// Asks which addresses are local.
    pub(crate) fn between(
        netns: &Netns,
        [now, then]: [&'a Receivers; 2],
        [old, new]: [&'a Ruleset; 2],
    ) -> Result<Self> {
        let (locals, prefixes) = RouteTable::of(netns)?.model()?.locals();
        Ok(Self { now, then, old, new, locals, prefixes })
    }

    /// The prefixes that are local, as a whole or in part.
    pub(crate) fn local_prefixes(&self) -> Vec<Prefix> {
        self.prefixes.clone()
    }

    /// Whether a change is about addresses that are not local.
    pub(crate) fn leads_elsewhere(&self, plan: &Plan) -> bool {
        let locals: PrefixSet = self.local_prefixes().into_iter().collect();
        plan.rules.iter().any(|change| !locals.covers(&change.matching().local))
    }

    /// The first packet of those that move which a socket loses, to an address that is local.
    pub(crate) fn lost(&self, socket: &Listed, moved: &Moved) -> Option<Packet> {
        self.parts(socket, moved).next().map(|lost| lost.packet)
    }

    /// All that a socket loses of the packets that move, to addresses that are local.
    pub(crate) fn parts(&self, socket: &Listed, moved: &Moved) -> impl Iterator<Item = Lost> {
        let locals = self.locals.iter().filter_map(move |local| local.intersection(&moved.local));
        locals.flat_map(move |local| self.parts_within(socket, moved, local))
    }

    /// What it would lose of packets to addresses that are not local, as soon as they are.
    pub(crate) fn once_local(&self, socket: &Listed, moved: &Moved) -> Option<Lost> {
        let mut parts = self.parts_within(socket, moved, moved.local);
        parts.find(|lost| !self.locals.iter().any(|local| local.contains(lost.packet.local.ip())))
    }

    /// Between the addresses that sockets at this port are bound to, the kernel's ordinary lookup gives one answer.
    fn parts_within(&self, socket: &Listed, moved: &Moved, local: AddrRange) -> impl Iterator<Item = Lost> {
        let own = socket.bound.addr.port();
        let by_service = matches!(moved.previous.map(|rule| rule.verdict), Some(Verdict::Service(_)));
        let port = if moved.ports.contains(own) { own } else { moved.ports.first() };
        let ports = if by_service { Ok(moved.ports) } else { PortRange::new(port, port) };
        let at = self.now.sockets.at(moved.protocol, port, port);
        let mut cuts: BTreeSet<IpAddr> = at.map(|it| it.bound.addr.ip().to_canonical()).collect();
        cuts.extend(self.locals.iter().flat_map(|local| [local.first(), local.last()]));
        local.cut_at(&cuts).into_iter().filter_map(move |local| {
            let packet = packet(socket, moved, local.first(), port)?;
            let lost = || Some(Moved { local, ports: ports.clone().ok()?, ..moved.clone() });
            self.is_lost(socket, moved, &packet).then(lost)?.map(|moved| Lost { moved, packet })
        })
    }

    fn is_lost(&self, socket: &Listed, moved: &Moved, packet: &Packet) -> bool {
        let has = |receivers: &Receivers, ruleset: &Ruleset, rule: Option<Rule>| {
            receivers.of_packet(ruleset, rule, packet).iter().any(|it| it.cookie == socket.cookie)
        };
        has(self.now, self.old, moved.previous) && !has(self.then, self.new, moved.new)
    }
}

/// Adds packets that a listener loses to others, which come in order of address. Ranges that touch are joined.
pub(crate) fn add_joined(all: &mut Vec<Moved>, lost: Moved) {
    let kind = |it: &Moved| (it.protocol, it.ports, it.source, it.arrival.clone(), it.marks.clone());
    let before = all.iter_mut().rev().find(|known| kind(known) == kind(&lost));
    match before.and_then(|known| Some((known.local.followed_by(&lost.local)?, known))) {
        Some((both, known)) => known.local = both,
        None => all.push(lost),
    }
}

/// A packet to this address that is one of those that move and comes in where the socket could receive it.
fn packet(socket: &Listed, moved: &Moved, addr: IpAddr, port: u16) -> Option<Packet> {
    let anywhere: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let remote = moved.source.map_or(anywhere, |source| source.first());
    let ifindex = match &moved.arrival {
        Arrival::On(index) => *index,
        Arrival::Any | Arrival::NotOn(_) => socket.bound.device,
    };
    let mark = match &moved.marks {
        Marks::Any => Some(0),
        Marks::Of(mark) => Some(mark.value()),
        Marks::NotOf(_) => None,
    };
    let (local, remote) = (SocketAddr::new(addr, port), SocketAddr::new(remote, 0));
    moved.arrival.contains(ifindex).then_some(Packet { protocol: moved.protocol, local, remote, ifindex, mark })
}
