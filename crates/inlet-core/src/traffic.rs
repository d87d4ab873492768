//! Which packets get another answer when one ruleset takes the place of another.
//!
//! The answer of a packet is the verdict of the rule that decides, its service by name, or that there is no rule.
//! [`traffic`] names exactly the packets whose answer differs, as disjoint boxes: it walks the borders of addresses,
//! ports, sources and interfaces, never the packets. Only what a changed rule matches is looked at, so a small change to
//! a large ruleset is a small piece of work, and equal situations are worked out once.

mod cells;
mod narrow;
mod segments;
mod sides;
mod walk;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use self::sides::Sides;
use self::walk::Walk;
use crate::{Packet, Plan, PortRange, Prefix, Protocol, Rule, Ruleset};

/// Packets that get another answer. The rules are those of the two rulesets, with the numbers of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Their protocol.
    pub protocol: Protocol,
    /// Where they go to.
    pub local: AddrRange,
    /// The ports that they go to.
    pub ports: PortRange,
    /// Where they come from; `None` for everywhere.
    pub source: Option<AddrRange>,
    /// The interface on which they come in.
    pub arrival: Arrival,
    /// The rule that decided; `None` when there was none.
    pub old: Option<Rule>,
    /// The rule that decides now; `None` when there is none.
    pub new: Option<Rule>,
}

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddrRange {
    first: IpAddr,
    last: IpAddr,
}

/// Interfaces by index, as far as rules tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Every interface, and none in particular.
    Any,
    /// This one.
    On(u32),
    /// Every one but these.
    NotOn(Arc<[u32]>),
}

/// Calls `each` with all packets whose answer under `new` is another than under `old`, in address order; no packet is
/// in two of the boxes. `plan` is what differs between the two. It ends early when `each` breaks.
pub fn traffic(old: &Ruleset, new: &Ruleset, plan: &Plan, each: &mut dyn FnMut(Moved) -> ControlFlow<()>) {
    let _ = walk(old, new, plan, each);
}

fn walk(old: &Ruleset, new: &Ruleset, plan: &Plan, each: &mut dyn FnMut(Moved) -> ControlFlow<()>) -> ControlFlow<()> {
    let sides = Sides::new(old, new);
    match narrow::changed(old, new, plan) {
        Some(changed) => walk_near(old, new, &changed, &sides, each),
        None => walk_all(old, new, &sides, each),
    }
}

fn walk_all(
    old: &Ruleset,
    new: &Ruleset,
    sides: &Sides<'_>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    Walk::<u32>::new(sides, each).run(&old.v4, &new.v4)?;
    Walk::<u128>::new(sides, each).run(&old.v6, &new.v6)
}

/// Walks over the rules of these prefixes, inside them and around them.
fn walk_near(
    old: &Ruleset,
    new: &Ruleset,
    prefixes: &[Prefix],
    sides: &Sides<'_>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (v4, v6) = prefixes.split_at(prefixes.partition_point(|prefix| !prefix.is_v6()));
    let near4 = |ruleset: &Ruleset| narrow::near(&ruleset.v4, v4);
    let near6 = |ruleset: &Ruleset| narrow::near(&ruleset.v6, v6);
    Walk::<u32>::new(sides, each).run(&near4(old), &near4(new))?;
    Walk::<u128>::new(sides, each).run(&near6(old), &near6(new))
}

/// [`traffic`], but only of packets to these prefixes. It is quick when few rules are inside them or few rules change,
/// however many there are.
pub fn traffic_to(
    old: &Ruleset,
    new: &Ruleset,
    plan: &Plan,
    prefixes: Vec<Prefix>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) {
    let mut area = narrow::outermost(prefixes);
    if let Some(changed) = narrow::changed(old, new, plan) {
        area = narrow::shared(&area, &changed);
    }
    // Outside of it not all rules are looked at.
    let mut inside = |moved: Moved| {
        let after = area.partition_point(|prefix| AddrRange::from(*prefix).last < moved.local.first);
        let meeting = area[after..].iter().map_while(|prefix| moved.local.intersection(&(*prefix).into()));
        meeting.map(|local| Moved { local, ..moved.clone() }).try_for_each(&mut *each)
    };
    let sides = Sides::new(old, new);
    let _ = match narrow::is_worthwhile(area.len(), old, new) {
        true => walk_near(old, new, &area, &sides, &mut inside),
        false => walk_all(old, new, &sides, &mut inside),
    };
}

/// [`traffic`], but only of packets of this protocol to this port. It is quick when few rules are about that port, however
/// many there are.
pub fn traffic_at(
    old: &Ruleset,
    new: &Ruleset,
    protocol: Protocol,
    port: u16,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (old, new) = (narrow::about(old, protocol, port), narrow::about(new, protocol, port));
    let Ok(ports) = PortRange::new(port, port) else { return ControlFlow::Continue(()) };
    // Of other ports the rules that are left do not tell who wins.
    let mut here = |moved: Moved| match moved.ports.contains(port) {
        true => each(Moved { ports, ..moved }),
        false => ControlFlow::Continue(()),
    };
    walk(&old, &new, &Plan::between(&old, &new), &mut here)
}

impl Moved {
    /// Whether the packet is one of these.
    pub fn contains(&self, packet: &Packet) -> bool {
        self.protocol == packet.protocol
            && self.local.contains(packet.local.ip())
            && self.ports.contains(packet.local.port())
            && self.source.is_none_or(|source| source.contains(packet.remote.ip()))
            && self.arrival.contains(packet.ifindex)
    }

    /// Whether both say the same of packets to their addresses.
    fn differs_in_local_only(&self, other: &Self) -> bool {
        let Self { protocol, local: _, ports, source, arrival, old, new } = self;
        (protocol, ports, old, new, source, arrival)
            == (&other.protocol, &other.ports, &other.old, &other.new, &other.source, &other.arrival)
    }
}

impl AddrRange {
    /// The addresses from `first` to `last`, which are of one family.
    pub(crate) fn new(first: IpAddr, last: IpAddr) -> Self {
        debug_assert!(first.is_ipv4() == last.is_ipv4() && first <= last);
        Self { first, last }
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether the address is inside.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.first.is_ipv4() && self.first <= addr && addr <= self.last
    }

    /// The addresses of both, if any.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        let one_family = self.first.is_ipv4() == other.first.is_ipv4();
        (one_family && first <= last).then(|| Self::new(first, last))
    }

    /// The prefix of exactly these addresses, when they are one.
    pub fn prefix(&self) -> Option<Prefix> {
        let (first, last, bits) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into(), 32),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), 128),
            _ => return None,
        };
        let host_bits = 128 - (first ^ last).leading_zeros();
        let mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |end| end - 1);
        let is_prefix = first & mask == 0 && last & mask == mask;
        let len = (bits - host_bits) as u8;
        is_prefix.then(|| if bits == 32 { Prefix::v4(first as u32, len) } else { Prefix::v6(first, len) })
    }
}

impl From<Prefix> for AddrRange {
    fn from(prefix: Prefix) -> Self {
        Self::new(prefix.net().network(), prefix.net().broadcast())
    }
}

impl From<IpAddr> for AddrRange {
    fn from(addr: IpAddr) -> Self {
        Self::new(addr, addr)
    }
}

/// A prefix where it is one (`192.0.2.0/24`, `192.0.2.7`), else the two ends.
impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            _ if self.first == self.last => write!(f, "{}", self.first),
            Some(prefix) => write!(f, "{prefix}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Arrival {
    /// Whether a packet that came in on the interface of this index is meant; 0 stands for none in particular.
    pub fn contains(&self, ifindex: u32) -> bool {
        match self {
            Self::Any => true,
            Self::On(index) => *index == ifindex,
            Self::NotOn(indexes) => !indexes.contains(&ifindex),
        }
    }
}

/// What is gone through in order: ports and addresses.
trait Step: Copy + Ord {
    fn next(self) -> Option<Self>;
    /// The one before; never asked of the lowest.
    fn before(self) -> Self;
}

/// Addresses of a family as numbers.
trait Addr: Step {
    const WHOLE: (Self, Self);
    /// The first and the last address of a prefix of this family.
    fn bounds(prefix: Prefix) -> (Self, Self);
    fn ip(self) -> IpAddr;
}

macro_rules! step {
    ($number:ty) => {
        impl Step for $number {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn before(self) -> Self {
                self - 1
            }
        }
    };
}

step!(u16);
step!(u32);
step!(u128);

impl Addr for u32 {
    const WHOLE: (Self, Self) = (0, Self::MAX);

    fn bounds(prefix: Prefix) -> (Self, Self) {
        let ipnet::IpNet::V4(net) = prefix.net() else { unreachable!("an IPv6 prefix among IPv4 ones") };
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }
}

impl Addr for u128 {
    const WHOLE: (Self, Self) = (0, Self::MAX);

    fn bounds(prefix: Prefix) -> (Self, Self) {
        let ipnet::IpNet::V6(net) = prefix.net() else { unreachable!("an IPv4 prefix among IPv6 ones") };
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_prefixes_read_as_such() {
        let text = |first: &str, last: &str| AddrRange::new(first.parse().unwrap(), last.parse().unwrap()).to_string();
        assert_eq!(text("192.0.2.0", "192.0.2.255"), "192.0.2.0/24");
        assert_eq!(text("192.0.2.0", "192.0.2.254"), "192.0.2.0-192.0.2.254");
        assert_eq!(text("192.0.2.128", "192.0.3.127"), "192.0.2.128-192.0.3.127");
        assert_eq!(text("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(text("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0");
        assert_eq!(text("::1", "::1"), "::1");
    }

    #[test]
    fn prefixes_and_ranges_are_the_same() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::/0", "::1/128"] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(AddrRange::from(prefix).prefix(), Some(prefix));
        }
    }
}
