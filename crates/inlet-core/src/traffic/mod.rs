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

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use self::sides::Sides;
use self::walk::Walk;
use crate::area::{AddrRange, Arrival};
use crate::rule::{Packet, PortRange, Prefix, Protocol, Rule};
use crate::ruleset::{Plan, Ruleset};

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
        let after = area.partition_point(|prefix| AddrRange::from(*prefix).last() < moved.local.first());
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
        prefix.bounds4()
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }
}

impl Addr for u128 {
    const WHOLE: (Self, Self) = (0, Self::MAX);

    fn bounds(prefix: Prefix) -> (Self, Self) {
        prefix.bounds6()
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }
}
