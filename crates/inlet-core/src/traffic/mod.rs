//! Which packets get another answer when one ruleset replaces another.
//!
//! The answer to a packet is the verdict of the rule that decides, its service by name, or that no rule matches.
//! [`traffic`] names exactly the packets whose answer differs, as disjoint boxes.
//!
//! It walks the borders of addresses, ports, sources, interfaces and marks, never packets. It looks only at what
//! changed rules match, so a small change of a large ruleset is little work. Equal situations are computed once.

mod by_mark;
mod cells;
mod narrow;
mod segments;
mod sides;
mod walk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use self::sides::Sides;
use self::walk::Walk;
use crate::area::{AddrRange, Arrival, Marks};
use crate::rule::{Family, Packet, PortRange, Prefix, Protocol, Rule};
use crate::ruleset::{Plan, Ruleset};

/// Packets that get another answer. Each rule has the numbers of its own ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Their protocol.
    pub protocol: Protocol,
    /// The addresses that they go to.
    pub local: AddrRange,
    /// The ports that they go to.
    pub ports: PortRange,
    /// The addresses that they come from; `None` for all.
    pub source: Option<AddrRange>,
    /// The interface on which they come in.
    pub arrival: Arrival,
    /// Their mark.
    pub marks: Marks,
    /// The rule of the previous ruleset that decides; `None` when no rule matches.
    pub previous: Option<Rule>,
    /// The rule of the new ruleset that decides; `None` when no rule matches.
    pub new: Option<Rule>,
}

/// Calls `each` with all packets whose answer differs, in address order. No packet is in two boxes. `plan` is the
/// difference between the rulesets. It stops when `each` breaks.
pub fn traffic(previous: &Ruleset, new: &Ruleset, plan: &Plan, each: &mut dyn FnMut(Moved) -> ControlFlow<()>) {
    let _ = walk(previous, new, plan, each);
}

fn walk(
    previous: &Ruleset,
    new: &Ruleset,
    plan: &Plan,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let sides = Sides::new(previous, new);
    match narrow::changed(previous, new, plan) {
        Some(changed) => walk_near(previous, new, &changed, &sides, each),
        None => walk_all(previous, new, &sides, each),
    }
}

fn walk_all(
    previous: &Ruleset,
    new: &Ruleset,
    sides: &Sides<'_>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    Walk::<'_, '_, u32>::new(sides, each).run(&previous.v4, &new.v4)?;
    Walk::<'_, '_, u128>::new(sides, each).run(&previous.v6, &new.v6)
}

/// Walks over the rules of these prefixes, of all prefixes inside them and around them.
fn walk_near(
    previous: &Ruleset,
    new: &Ruleset,
    prefixes: &[Prefix],
    sides: &Sides<'_>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (v4, v6) = prefixes.split_at(prefixes.partition_point(|prefix| prefix.family() == Family::V4));
    let near4 = |ruleset: &Ruleset| narrow::near(&ruleset.v4, v4);
    let near6 = |ruleset: &Ruleset| narrow::near(&ruleset.v6, v6);
    Walk::<'_, '_, u32>::new(sides, each).run(&near4(previous), &near4(new))?;
    Walk::<'_, '_, u128>::new(sides, each).run(&near6(previous), &near6(new))
}

/// [`traffic`], but only packets to these prefixes. It is fast when few rules are inside them or few rules change.
pub fn traffic_to(
    previous: &Ruleset,
    new: &Ruleset,
    plan: &Plan,
    prefixes: Vec<Prefix>,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) {
    let mut area = narrow::outermost(prefixes);
    if let Some(changed) = narrow::changed(previous, new, plan) {
        area = narrow::shared(&area, &changed);
    }
    // Outside of this area not all rules are looked at.
    let mut inside = |moved: Moved| {
        let after = area.partition_point(|prefix| AddrRange::from(*prefix).last() < moved.local.first());
        let meeting = area[after..].iter().map_while(|prefix| moved.local.intersection(&(*prefix).into()));
        meeting.map(|local| Moved { local, ..moved.clone() }).try_for_each(&mut *each)
    };
    let sides = Sides::new(previous, new);
    let _ = match narrow::is_worthwhile(area.len(), previous, new) {
        true => walk_near(previous, new, &area, &sides, &mut inside),
        false => walk_all(previous, new, &sides, &mut inside),
    };
}

/// [`traffic`], but only packets of this protocol to this port. It is fast when few rules match that port.
pub fn traffic_at(
    previous: &Ruleset,
    new: &Ruleset,
    protocol: Protocol,
    port: u16,
    each: &mut dyn FnMut(Moved) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (previous, new) = (narrow::about(previous, protocol, port), narrow::about(new, protocol, port));
    let Ok(ports) = PortRange::new(port, port) else { return ControlFlow::Continue(()) };
    // The rules that are left do not decide about other ports.
    let mut here = |moved: Moved| match moved.ports.contains(port) {
        true => each(Moved { ports, ..moved }),
        false => ControlFlow::Continue(()),
    };
    walk(&previous, &new, &Plan::between(&previous, &new), &mut here)
}

impl Moved {
    /// Whether the packet is in the box.
    pub fn contains(&self, packet: &Packet) -> bool {
        self.protocol == packet.protocol
            && self.local.contains(packet.local.ip())
            && self.ports.contains(packet.local.port())
            && self.source.is_none_or(|source| source.contains(packet.remote.ip()))
            && self.arrival.contains(packet.ifindex)
            && self.marks.contains(packet.mark)
    }

    /// Whether both boxes differ only in their addresses.
    fn differs_in_local_only(&self, other: &Self) -> bool {
        let Self { protocol, local: _, ports, source, arrival, marks, previous, new } = self;
        (protocol, ports, previous, new, source, (arrival, marks))
            == (
                &other.protocol,
                &other.ports,
                &other.previous,
                &other.new,
                &other.source,
                (&other.arrival, &other.marks),
            )
    }
}

/// Values that are walked in order: ports and addresses.
trait Step: Copy + Ord {
    fn next(self) -> Option<Self>;
    /// The value before; never called on the lowest.
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
