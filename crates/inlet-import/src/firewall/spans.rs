//! Sets of addresses as sorted ranges that neither meet nor touch, and the texts that firewalls write them in.

use std::net::IpAddr;

use inlet_core::{Family, Prefix};

/// Ranges of numbers, both ends included, in order, with a gap between any two.
pub(crate) type Spans = Vec<(u128, u128)>;

/// Addresses of both families. IPv4 addresses count from 0 to 2^32 - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Addresses {
    v4: Spans,
    v6: Spans,
}

impl Addresses {
    pub(crate) fn of(&self, family: Family) -> &Spans {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The addresses of these ranges, which may overlap.
    pub(crate) fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut all = Self::default();
        for Range { family, first, last } in ranges {
            match family {
                Family::V4 => all.v4.push((first, last)),
                Family::V6 => all.v6.push((first, last)),
            }
        }
        Self { v4: joined(all.v4), v6: joined(all.v6) }
    }

    /// Adds others.
    pub(crate) fn add(&mut self, others: Self) {
        for (own, others) in [(&mut self.v4, others.v4), (&mut self.v6, others.v6)] {
            own.extend(others);
            *own = joined(std::mem::take(own));
        }
    }

    /// The addresses of members of which the longest prefix around an address decides: whether it counts, or is taken
    /// out.
    pub(crate) fn with_exceptions(members: &[(Range, bool)]) -> Self {
        let mut members = members.to_vec();
        members.sort_by_key(|(range, counts)| (range.family, range.first, std::cmp::Reverse(range.last), *counts));
        let mut found = Vec::new();
        let mut around: Vec<(Range, bool)> = Vec::new();
        let mut from = 0;
        let mut piece = |(range, counts): (Range, bool), first: u128, last: u128| {
            if counts && first <= last {
                found.push(Range { first, last, ..range });
            }
        };
        // Prefixes lie inside each other or apart, so those around an address are a stack.
        let mut leave = |around: &mut Vec<(Range, bool)>, from: &mut u128, before: Option<Range>| {
            while let Some(top) = around.last().copied() {
                if before.is_some_and(|next| next.family == top.0.family && next.first <= top.0.last) {
                    break;
                }
                if *from <= top.0.last {
                    piece(top, *from, top.0.last);
                    *from = top.0.last.saturating_add(1);
                }
                around.pop();
            }
            if let (Some(top), Some(next)) = (around.last().copied(), before)
                && next.first > *from
            {
                piece(top, *from, next.first - 1);
            }
        };
        for member in members {
            leave(&mut around, &mut from, Some(member.0));
            from = member.0.first;
            around.push(member);
        }
        leave(&mut around, &mut from, None);
        Self::new(found)
    }
}

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Range {
    pub(crate) family: Family,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Range {
    /// An address, a prefix (host bits count for nothing), a prefix with a netmask, or `FIRST-LAST`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Some((first, end)) = text.split_once('-') {
            let (first, end) = (first.parse::<IpAddr>().ok()?, end.parse::<IpAddr>().ok()?);
            let (family, first, end) = (Family::from(first), bits(first), (Family::from(end), bits(end)));
            return (family == end.0 && first <= end.1).then_some(Self { family, first, last: end.1 });
        }
        let (addr, len) = match text.split_once('/') {
            None => (text, None),
            Some((addr, len)) => (addr, Some(len)),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let family = Family::from(addr);
        let len = match len {
            None => u32::from(family.bits()),
            Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => len.parse().ok()?,
            Some(mask) => mask_len(mask.parse().ok()?)?,
        };
        Self::prefix(addr, len)
    }

    /// The prefix of `len` bits around an address.
    pub(crate) fn prefix(addr: IpAddr, len: u32) -> Option<Self> {
        let family = Family::from(addr);
        let hosts = u32::from(family.bits()).checked_sub(len)?;
        let mask = 1_u128.checked_shl(hosts).map_or(u128::MAX, |end| end - 1);
        let first = bits(addr) & !mask;
        Some(Self { family, first, last: first | mask })
    }
}

/// The length of a netmask; `None` when its ones are not all in front.
pub(crate) fn mask_len(mask: IpAddr) -> Option<u32> {
    let ones = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
    };
    (ones.0 == ones.1).then_some(ones.0)
}

/// An address as a number.
pub(crate) fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The highest address of a family.
pub(crate) fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    }
}

/// The prefix of `len` bits that begins at a number; `None` for IPv4-mapped ones, which no packet carries.
pub(crate) fn to_prefix(family: Family, first: u128, len: u8) -> Option<Prefix> {
    let addr = match family {
        Family::V4 => IpAddr::V4((first as u32).into()),
        Family::V6 => IpAddr::V6(first.into()),
    };
    Prefix::holding(addr, len)
}

/// Whether a number is in one of the ranges.
pub(crate) fn holds(spans: &[(u128, u128)], number: u128) -> bool {
    let after = spans.partition_point(|span| span.0 <= number);
    after > 0 && number <= spans[after - 1].1
}

/// Ranges sorted, and those joined that meet or touch.
pub(crate) fn joined(mut spans: Spans) -> Spans {
    spans.sort_unstable();
    let mut joined: Spans = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Range {
        Range::read(text).unwrap()
    }

    #[test]
    fn texts_of_addresses() {
        assert_eq!(read("192.0.2.7/24"), read("192.0.2.0-192.0.2.255"));
        assert_eq!(read("192.0.2.7/255.255.255.0"), read("192.0.2.0/24"));
        assert_eq!(read("0.0.0.0/0"), Range { family: Family::V4, first: 0, last: last(Family::V4) });
        assert_eq!(read("::/0"), Range { family: Family::V6, first: 0, last: last(Family::V6) });
        for wrong in ["", "192.0.2.0/33", "192.0.2.0/255.0.255.0", "192.0.2.9-192.0.2.1", "web", "1.2.3.4-::1"] {
            assert_eq!(Range::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_longest_member_decides() {
        let members = |list: &[(&str, bool)]| -> Addresses {
            Addresses::with_exceptions(&list.iter().map(|(text, counts)| (read(text), *counts)).collect::<Vec<_>>())
        };
        let whole = |list: &[&str]| Addresses::new(list.iter().map(|text| read(text)));
        assert_eq!(
            members(&[("10.0.0.0/8", true), ("10.1.0.0/16", false), ("10.1.2.0/24", true), ("11.0.0.1", true)]),
            whole(&["10.0.0.0/16", "10.1.2.0/24", "10.2.0.0-10.255.255.255", "11.0.0.1"])
        );
        assert_eq!(members(&[("0.0.0.0/0", true), ("255.255.255.255", false)]), whole(&["0.0.0.0-255.255.255.254"]));
        assert_eq!(members(&[("10.0.0.0/24", true), ("10.0.0.0/25", false)]), whole(&["10.0.0.128/25"]));
        assert_eq!(members(&[("10.0.0.0/24", false)]), whole(&[]));
    }
}
