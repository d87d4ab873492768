//! Ranges of addresses, and sets of interfaces on which packets come in.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::rule::Prefix;

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddrRange {
    first: IpAddr,
    last: IpAddr,
}

/// Interfaces by the kernel's index, as far as rules tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Every interface, also an unknown one.
    Any,
    /// This interface.
    On(u32),
    /// Every interface except these.
    NotOn(Arc<[u32]>),
}

impl AddrRange {
    /// The addresses from `first` to `last`, which are of one family.
    pub fn new(first: IpAddr, last: IpAddr) -> Self {
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

    /// The addresses that are in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        let one_family = self.first.is_ipv4() == other.first.is_ipv4();
        (one_family && first <= last).then(|| Self::new(first, last))
    }

    /// Both ranges as one, when the other begins right after this one.
    pub fn followed_by(&self, other: &Self) -> Option<Self> {
        (next(self.last) == Some(other.first)).then(|| Self::new(self.first, other.last))
    }

    /// The range in pieces, in order: each of these addresses that is inside is a piece of its own.
    pub fn cut_at(&self, addrs: &BTreeSet<IpAddr>) -> Vec<Self> {
        let (mut pieces, mut rest) = (Vec::new(), Some(self.first));
        for addr in addrs.range(self.first..=self.last).copied().filter(|addr| self.contains(*addr)) {
            let before = rest.filter(|first| *first < addr).and_then(|first| Some(Self::new(first, previous(addr)?)));
            pieces.extend(before);
            pieces.push(addr.into());
            rest = next(addr);
        }
        pieces.extend(rest.filter(|first| self.contains(*first)).map(|first| Self::new(first, self.last)));
        pieces
    }

    /// The prefix that has exactly these addresses, when there is one.
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

/// The address after this one.
fn next(addr: IpAddr) -> Option<IpAddr> {
    Some(match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().checked_add(1)?).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().checked_add(1)?).into(),
    })
}

/// The address before this one.
fn previous(addr: IpAddr) -> Option<IpAddr> {
    Some(match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().checked_sub(1)?).into(),
    })
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
    /// Whether a packet that came in on the interface of this index is included; 0 means an unknown interface.
    pub fn contains(&self, ifindex: u32) -> bool {
        match self {
            Self::Any => true,
            Self::On(index) => *index == ifindex,
            Self::NotOn(indexes) => !indexes.contains(&ifindex),
        }
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
    fn a_range_is_cut_at_addresses() {
        let pieces = |prefix: &str, addrs: &[&str]| {
            let range = AddrRange::from(prefix.parse::<Prefix>().unwrap());
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            range.cut_at(&addrs).iter().map(AddrRange::to_string).collect::<Vec<_>>()
        };
        assert_eq!(pieces("192.0.2.0/29", &[]), ["192.0.2.0/29"]);
        assert_eq!(
            pieces("192.0.2.0/29", &["192.0.2.0", "192.0.2.3", "192.0.2.7", "192.0.2.8", "::1"]),
            ["192.0.2.0", "192.0.2.1-192.0.2.2", "192.0.2.3", "192.0.2.4-192.0.2.6", "192.0.2.7"]
        );
        assert_eq!(pieces("0.0.0.0/0", &["255.255.255.255"]), ["0.0.0.0-255.255.255.254", "255.255.255.255"]);
        assert_eq!(pieces("::1/128", &["::", "::1"]), ["::1"]);
        let range = |text: &str| AddrRange::from(text.parse::<Prefix>().unwrap());
        let joined = range("192.0.2.0/25").followed_by(&range("192.0.2.128/25"));
        assert_eq!(joined, Some(range("192.0.2.0/24")));
        assert_eq!(range("255.255.255.255").followed_by(&range("::")), None);
    }

    #[test]
    fn prefixes_and_ranges_are_the_same() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::/0", "::1/128"] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(AddrRange::from(prefix).prefix(), Some(prefix));
        }
    }
}
