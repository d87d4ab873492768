//! What the model says of all addresses of a prefix: in parts, of which each has one answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use inlet_core::{AddrRange, Family, Prefix, PrefixSet};

use super::model::{Decision, Model};
use super::policy::Arriving;

/// Addresses of which the model says the same.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) range: AddrRange,
    pub(crate) decision: Decision,
}

/// The places at which the answer may change: the prefixes of routes and of rules, in order.
pub(crate) struct Borders {
    v4: Vec<Prefix>,
    v6: Vec<Prefix>,
}

impl Model {
    /// Looks for the places at which answers change, once for many prefixes.
    pub(crate) fn borders(&self) -> Borders {
        let of = |family: Family| {
            let routes = self.routes().filter(|route| route.prefix.family() == family).map(|route| route.prefix);
            let rules = self.side(family).policies.iter().filter_map(|policy| policy.to());
            let mut all: Vec<Prefix> = routes.chain(rules).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        Borders { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// The parts of a prefix, in order, for packets of which nothing is known but where they go to.
    pub(crate) fn parts(&self, borders: &Borders, prefix: Prefix) -> Vec<Part> {
        let whole = AddrRange::from(prefix);
        let all = if prefix.is_v6() { &borders.v6 } else { &borders.v4 };
        let first = all.partition_point(|it| it.addr() < whole.first());
        let inside = all[first..].iter().take_while(|it| it.addr() <= whole.last()).map(|it| AddrRange::from(*it));
        let ends = |range: AddrRange| [Some(range.first()), after(range.last())];
        let mut starts: Vec<IpAddr> = inside.flat_map(ends).flatten().filter(|addr| whole.contains(*addr)).collect();
        starts.push(whole.first());
        starts.sort_unstable();
        starts.dedup();
        let mut parts: Vec<Part> = Vec::new();
        for (at, start) in starts.iter().enumerate() {
            let last = starts.get(at + 1).map_or(whole.last(), |next| before(*next));
            let decision = self.decide(&Arriving::to(*start));
            match parts.last_mut() {
                Some(part) if part.decision == decision => part.range = AddrRange::new(part.range.first(), last),
                _ => parts.push(Part { range: AddrRange::new(*start, last), decision }),
            }
        }
        parts
    }

    /// The addresses that are local, to some packets at least, and the prefixes that hold them.
    pub(crate) fn locals(&self) -> (Vec<AddrRange>, Vec<Prefix>) {
        let is_local = |kind: &str| ["local", "anycast"].contains(&kind);
        let prefixes: PrefixSet = self.routes().filter(|it| is_local(it.kind)).map(|it| it.prefix).collect();
        let prefixes: Vec<Prefix> = prefixes.iter().copied().collect();
        let borders = self.borders();
        let parts = prefixes.iter().flat_map(|prefix| self.parts(&borders, *prefix));
        (parts.filter(|part| part.decision.may_be_local()).map(|part| part.range).collect(), prefixes)
    }
}

impl Arriving {
    /// A packet of which nothing else is known.
    pub(crate) fn to(addr: IpAddr) -> Self {
        Self { addr, source: None, interface: None, transport: None }
    }
}

fn after(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn before(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().saturating_sub(1)).into(),
    }
}
