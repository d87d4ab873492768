//! Claims and rules that differ in one thing only, joined: their ports, then their prefixes, their sources, their
//! protocols.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use inlet::rules::{Area, Claim, Mark, PortRange, Prefix, Protocol, Ruleset};

use super::area::{exceptions, is_whole};

/// Addresses from one to another, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    v6: bool,
    first: u128,
    last: u128,
}

/// Claims that are one for people.
pub(super) struct Joined {
    pub(super) protocols: Vec<Protocol>,
    pub(super) ports: Vec<PortRange>,
    pub(super) locals: Vec<Range>,
    /// Empty: any source.
    pub(super) sources: Vec<Range>,
    pub(super) ifindex: Option<u32>,
    pub(super) mark: Option<Mark>,
    /// What others take of each of them, in words.
    pub(super) except: String,
}

/// The values of each key, the keys in the order in which they first come.
pub(super) fn by_key<K: Clone + Eq + Hash, V>(items: impl IntoIterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let (mut places, mut groups) = (HashMap::new(), Vec::<(K, Vec<V>)>::new());
    for (key, value) in items {
        let place = *places.entry(key.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// Joins claims. The packets are the same as before.
pub(super) fn claims(ruleset: &Ruleset, claims: &[Claim]) -> Vec<Joined> {
    let by_ports = by_key(claims.iter().enumerate().map(|(number, claim)| {
        let Area { protocol, local, ports, source, ifindex, mark } = claim.area;
        let on = (ifindex, mark);
        // When not all exceptions are named, the words say too little to compare them.
        let alone = (!is_whole(claim)).then_some(number);
        ((protocol, local, source, on, exceptions(ruleset, claim), alone), ports)
    }));
    let by_local = by_key(by_ports.into_iter().map(|((protocol, local, source, on, except, alone), ports)| {
        ((protocol, adjacent_ports(ports), source, on, except, alone), Range::from(local))
    }));
    let by_source = by_key(by_local.into_iter().map(|((protocol, ports, source, on, except, alone), locals)| {
        ((protocol, ports, adjacent(locals), on, except, alone, source.is_some()), source.map(Range::from))
    }));
    let by_protocol =
        by_key(by_source.into_iter().map(|((protocol, ports, locals, on, except, alone, _), sources)| {
            let sources = adjacent(sources.into_iter().flatten().collect());
            ((ports, locals, sources, on, except, alone), protocol)
        }));
    let joined = by_protocol.into_iter().map(|((ports, locals, sources, on, except, _), protocols)| Joined {
        protocols,
        ports,
        locals,
        sources,
        ifindex: on.0,
        mark: on.1,
        except,
    });
    joined.collect()
}

/// Port ranges in order, those that touch joined.
fn adjacent_ports(mut ports: Vec<PortRange>) -> Vec<PortRange> {
    ports.sort_unstable();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ports {
        let with = joined.last().filter(|last| u32::from(last.last()) + 1 >= u32::from(range.first()));
        match with.and_then(|last| PortRange::new(last.first(), last.last().max(range.last())).ok()) {
            Some(both) => {
                joined.pop();
                joined.push(both);
            }
            None => joined.push(range),
        }
    }
    joined
}

/// Ranges in order, those that touch joined.
pub(super) fn adjacent(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut().filter(|last| last.v6 == range.v6 && last.last.saturating_add(1) >= range.first) {
            Some(last) => last.last = last.last.max(range.last),
            None => joined.push(range),
        }
    }
    joined
}

impl From<Prefix> for Range {
    fn from(prefix: Prefix) -> Self {
        let bits = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => addr.to_bits().into(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        let (first, last) = (prefix.net().network(), prefix.net().broadcast());
        Self { v6: first.is_ipv6(), first: bits(first), last: bits(last) }
    }
}

/// An address, a prefix where it is one, else the two ends.
impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { v6, first, last } = *self;
        let addr = |bits: u128| match v6 {
            true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            // Of this family all bits are in the lower half of the lower half.
            false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        };
        let host_bits = 128 - (first ^ last).leading_zeros();
        let mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |end| end - 1);
        match first & mask == 0 && last & mask == mask {
            _ if first == last => write!(f, "{}", addr(first)),
            true => write!(f, "{}/{}", addr(first), if v6 { 128 } else { 32 } - host_bits),
            false => write!(f, "{}-{}", addr(first), addr(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(prefixes: &[&str]) -> String {
        let ranges = prefixes.iter().map(|prefix| Range::from(prefix.parse::<Prefix>().unwrap())).collect();
        adjacent(ranges).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_that_touch_are_one_range() {
        assert_eq!(shown(&["192.0.2.128/25", "192.0.2.0/25"]), "192.0.2.0/24");
        assert_eq!(shown(&["192.0.2.3", "192.0.2.1", "192.0.2.2"]), "192.0.2.1-192.0.2.3");
        assert_eq!(shown(&["192.0.2.7", "192.0.2.0/24", "198.51.100.0/24"]), "192.0.2.0/24 198.51.100.0/24");
        assert_eq!(shown(&["0.0.0.0/0", "::/0"]), "0.0.0.0/0 ::/0");
        assert_eq!(shown(&["255.255.255.255", "::", "::1"]), "255.255.255.255 ::/127");
        assert_eq!(shown(&["2001:db8::/64"]), "2001:db8::/64");
    }

    #[test]
    fn ports_that_touch_are_one_range() {
        let ranges = [(443, 443), (80, 80), (81, 90), (85, 100)].map(|(a, b)| PortRange::new(a, b).unwrap());
        let joined = adjacent_ports(ranges.into());
        assert_eq!(joined.iter().map(ToString::to_string).collect::<Vec<_>>(), ["80-100", "443"]);
        let all = adjacent_ports([(1, 65_534), (65_535, 65_535)].map(|(a, b)| PortRange::new(a, b).unwrap()).into());
        assert_eq!(all[0].to_string(), "any");
    }

    #[test]
    fn keys_keep_their_order() {
        assert_eq!(by_key([("b", 1), ("a", 2), ("b", 3)]), [("b", vec![1, 3]), ("a", vec![2])]);
    }
}
