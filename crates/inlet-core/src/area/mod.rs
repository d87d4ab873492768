//! Packets as an area: a range for each of local prefix, ports, source, interface and mark.
//!
//! Areas can be compared and cut exactly, without looking at packets.

mod bound;
mod claims;
mod marks;
mod prefix_set;
mod range;
mod reopened;
mod shadow;

use crate::rule::{Mark, Match, Packet, PortRange, Prefix, Protocol};
use crate::ruleset::Ruleset;

pub use bound::{Bound, Rank};
pub use claims::{Claim, EXCEPTIONS, given, kept};
pub use marks::Marks;
pub use prefix_set::{PrefixSet, steered_prefixes};
pub use range::{AddrRange, Arrival};
pub use reopened::{Reopened, reopened, reopened_by};
pub use shadow::{never_matching, takers};

/// All packets of a protocol within a local prefix, a port range, a source prefix, an interface and a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Area {
    /// The protocol.
    pub protocol: Protocol,
    /// The addresses that the packets go to.
    pub local: Prefix,
    /// The ports that they go to.
    pub ports: PortRange,
    /// The addresses that they come from; `None` for all. Of the family of `local`.
    pub source: Option<Prefix>,
    /// The kernel's index of the interface on which they come in; `None` for all.
    pub ifindex: Option<u32>,
    /// Their mark; `None` for all, also those whose mark is unknown.
    pub mark: Option<Mark>,
}

impl Area {
    /// The packets that a match of a ruleset selects. `None`: its interface does not exist, so it selects no packet.
    pub fn of(ruleset: &Ruleset, matching: &Match) -> Option<Self> {
        let Match { protocol, local, ports, source, iface, mark } = *matching;
        let ifindex = iface.map(|id| ruleset.interface(id).index);
        (ifindex != Some(0)).then_some(Self { protocol, local, ports, source, ifindex, mark })
    }

    /// Whether the packet is in the area.
    pub fn holds(&self, packet: &Packet) -> bool {
        self.protocol == packet.protocol
            && self.local.contains(packet.local.ip())
            && self.ports.contains(packet.local.port())
            && self.source.is_none_or(|source| source.contains(packet.remote.ip()))
            && self.ifindex.is_none_or(|index| index == packet.ifindex)
            && self.mark.is_none_or(|mark| packet.has(mark))
    }

    /// The packets that are in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let ports =
            PortRange::new(self.ports.first().max(other.ports.first()), self.ports.last().min(other.ports.last()))
                .ok()?;
        let ifindex = match (self.ifindex, other.ifindex) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        let source = match (self.source, other.source) {
            (Some(one), Some(two)) => Some(narrower(one, two)?),
            (one, two) => one.or(two),
        };
        let mark = match (self.mark, other.mark) {
            (Some(one), Some(two)) => Some(one.intersection(two)?),
            (one, two) => one.or(two),
        };
        let local = narrower(self.local, other.local)?;
        let protocol = self.protocol;
        (protocol == other.protocol).then_some(Self { protocol, local, ports, source, ifindex, mark })
    }

    /// Whether all packets of `other` are in this area.
    pub fn covers(&self, other: &Self) -> bool {
        self.intersection(other) == Some(*other)
    }

    /// Whether every packet of this area is in one of `parts`.
    pub fn is_covered_by(&self, parts: &[Self]) -> bool {
        let parts: Vec<Self> = parts.iter().filter_map(|part| self.intersection(part)).collect();
        covered(self.local, self, &parts)
    }
}

/// The prefix that is inside the other one.
fn narrower(one: Prefix, two: Prefix) -> Option<Prefix> {
    match (one.covers(&two), two.covers(&one)) {
        (true, _) => Some(two),
        (_, true) => Some(one),
        _ => None,
    }
}

/// Whether every packet of `whole` to `local` is in one of `parts`, which lie inside `whole`. It halves the prefix
/// until no part has a longer one.
fn covered(local: Prefix, whole: &Area, parts: &[Area]) -> bool {
    let (wide, inner): (Vec<Area>, Vec<Area>) = parts.iter().partition(|part| part.local.covers(&local));
    if covered_in_ports(whole, &wide) {
        return true;
    }
    let Some(halves) = local.halves().filter(|_| !inner.is_empty()) else { return false };
    let mut halves = halves.map(|half| {
        let inside = |part: &&Area| half.covers(&part.local);
        (half, inner.iter().filter(inside).chain(&wide).copied().collect::<Vec<Area>>())
    });
    // The half with fewer parts is more likely to have a hole.
    halves.sort_by_key(|(_, parts)| parts.len());
    halves.iter().all(|(half, parts)| covered(*half, whole, parts))
}

/// The same for parts that cover the whole local prefix. Between two neighbouring borders of ports only sources and
/// marks count.
fn covered_in_ports(whole: &Area, parts: &[Area]) -> bool {
    // An area for all interfaces must also be covered on interfaces that no part names, an area for all marks also
    // where the mark is unknown.
    let counts = |part: &&Area| {
        (whole.ifindex.is_some() || part.ifindex.is_none()) && (whole.mark.is_some() || part.mark.is_none())
    };
    let parts: Vec<&Area> = parts.iter().filter(counts).collect();
    if parts.iter().any(|part| (part.ports, part.source, part.mark) == (whole.ports, whole.source, whole.mark)) {
        return true;
    }
    let mut starts: Vec<u16> = vec![whole.ports.first()];
    starts.extend(parts.iter().map(|part| part.ports.first()));
    starts.extend(parts.iter().filter_map(|part| part.ports.last().checked_add(1)));
    starts.retain(|start| whole.ports.contains(*start));
    starts.sort_unstable();
    starts.dedup();
    let here = |start: u16| parts.iter().filter(move |part| part.ports.contains(start)).copied();
    match parts.iter().all(|part| part.mark == whole.mark) {
        true => starts.into_iter().all(|start| sources_covered(whole.source, here(start).map(|part| part.source))),
        false => starts.into_iter().all(|start| marks::covered(whole, &here(start).collect::<Vec<&Area>>())),
    }
}

/// Whether every source of `whole` is in one of `parts`, none of which is wider.
fn sources_covered(whole: Option<Prefix>, parts: impl Iterator<Item = Option<Prefix>>) -> bool {
    let mut narrow = Vec::new();
    for part in parts {
        match part {
            Some(source) if Some(source) != whole => narrow.push(source),
            _ => return true,
        }
    }
    narrow.sort_unstable();
    let Some(first) = narrow.first() else { return false };
    let (low, high) = whole.map_or_else(|| first.family().everywhere().ends(), |whole| whole.ends());
    // The first address that no source so far covers; `None` after the highest address.
    let mut next = Some(low);
    for source in narrow {
        let (from, to) = source.ends();
        match next {
            Some(at) if from > at => return false,
            Some(at) => next = if to < at { Some(at) } else { to.checked_add(1) },
            None => break,
        }
    }
    next.is_none_or(|at| at > high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(local: &str, ports: &str, source: Option<&str>, ifindex: Option<u32>) -> Area {
        let source = source.map(|source| source.parse().unwrap());
        let (local, ports) = (local.parse().unwrap(), ports.parse().unwrap());
        Area { protocol: Protocol::Tcp, local, ports, source, ifindex, mark: None }
    }

    #[test]
    fn parts_that_only_together_cover() {
        let whole = area("10.0.0.0/24", "80-89", None, None);
        let low = area("10.0.0.0/25", "80-85", None, None);
        let high = area("10.0.0.128/25", "any", None, None);
        let ports = area("0.0.0.0/0", "86-100", None, None);
        assert!(whole.is_covered_by(&[low, high, ports]));
        assert!(!whole.is_covered_by(&[low, high]) && !whole.is_covered_by(&[high, ports]));
        let halves = [Some("0.0.0.0/1"), Some("128.0.0.0/1")].map(|half| area("10.0.0.0/24", "any", half, None));
        assert!(
            whole.is_covered_by(&halves) && !whole.is_covered_by(&halves[..1]) && !whole.is_covered_by(&halves[1..])
        );
        let six = ["::/1", "8000::/1"].map(|half| area("2001:db8::/32", "any", Some(half), None));
        assert!(area("2001:db8::/64", "1", None, None).is_covered_by(&six));
    }

    #[test]
    fn there_are_always_other_interfaces() {
        let whole = area("10.0.0.0/24", "80", None, None);
        let on = [1, 2].map(|index| area("10.0.0.0/24", "any", None, Some(index)));
        assert!(!whole.is_covered_by(&on));
        assert!(area("10.0.0.0/24", "80", None, Some(2)).is_covered_by(&on));
        assert!(area("10.0.0.0/24", "80", None, Some(2)).is_covered_by(&[whole]));
    }

    #[test]
    fn marks_cover_together_and_never_what_is_unknown() {
        let marked = |source: Option<&str>, mark: &str| Area {
            mark: Some(mark.parse().unwrap()),
            ..area("10.0.0.0/24", "80", source, None)
        };
        let (any, one) = (area("10.0.0.0/24", "80", None, None), marked(None, "0x1/0xff"));
        let halves = ["0x0/0x100", "0x100/0x100"].map(|mark| marked(None, mark));
        assert!(one.is_covered_by(&halves) && !one.is_covered_by(&halves[..1]) && !any.is_covered_by(&halves));
        assert!(one.is_covered_by(&[any]) && !one.is_covered_by(&[marked(None, "0x1/0x1ff")]));
        // 00 and 01 for one half of the sources, 0x and 1x for the other one.
        let low = ["0x0/0x3", "0x1/0x3", "0x2/0x2"].map(|mark| marked(Some("0.0.0.0/1"), mark));
        let high = ["0x0/0x2", "0x2/0x2"].map(|mark| marked(Some("128.0.0.0/1"), mark));
        let all: Vec<Area> = low.into_iter().chain(high).collect();
        assert!(one.is_covered_by(&all) && marked(None, "0x5/0xf").is_covered_by(&all));
        assert!(!marked(None, "0x4/0x4").is_covered_by(&[&low[1..], &high].concat()));
        assert!(marked(None, "0x6/0x6").is_covered_by(&[&low[1..], &high].concat()));
    }
}
