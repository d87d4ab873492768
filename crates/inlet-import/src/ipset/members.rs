//! The members of sets, and the test that a set stands for in a rule.

use inlet_core::{Family, Prefix, Protocol};

use super::{Set, Sets};
use crate::encode::prefixes;
use crate::firewall::{Addresses, Member, Range, Test, is_interface};

/// One part of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Address(Range),
    /// Of a protocol, when the set tells them apart; none of those that Inlet knows.
    Ports {
        protocol: Option<Option<Protocol>>,
        first: u16,
        last: u16,
    },
    Iface(String),
    Other(String),
}

impl Part {
    pub(super) fn address(&self) -> Option<Range> {
        match self {
            Self::Address(range) => Some(*range),
            _ => None,
        }
    }
}

/// How long a prefix is, as far as that decides between members.
fn len(range: &Range) -> u16 {
    let hosts = 128 - (range.first ^ range.last).leading_zeros() as u16;
    u16::from(range.family.bits()) - hosts.min(u16::from(range.family.bits()))
}

impl Set {
    fn fields(&self) -> Vec<&str> {
        self.kind.split_once(':').map(|(_, fields)| fields.split(',').collect()).unwrap_or_default()
    }

    /// The members that a text stands for.
    pub(super) fn parts(&self, text: &str) -> Result<Vec<Vec<Part>>, String> {
        let fields = self.fields();
        let texts: Vec<&str> = text.split(',').collect();
        let wrong = || format!("{text} is no member of a set of kind {}", self.kind);
        if texts.len() != fields.len() {
            return Err(wrong());
        }
        let parts = fields.iter().zip(texts).map(|(field, text)| self.part(field, text));
        let parts: Vec<Part> = parts.collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(vec![parts])
    }

    fn part(&self, field: &str, text: &str) -> Option<Part> {
        Some(match field {
            "ip" | "net" => {
                let range = Range::read(text)?;
                Part::Address(match self.netmask {
                    Some(len) => {
                        let hosts = u32::from(range.family.bits()).checked_sub(len)?;
                        let mask = 1_u128.checked_shl(hosts).map_or(u128::MAX, |end| end - 1);
                        Range { first: range.first & !mask, last: range.last | mask, ..range }
                    }
                    None => range,
                })
            }
            "port" => {
                let (protocol, ports) = match text.split_once(':') {
                    Some((protocol, ports)) => (Some(protocol.to_ascii_lowercase().parse().ok()), ports),
                    None if self.kind == "bitmap:port" => (None, text),
                    None => (Some(Some(Protocol::Tcp)), text),
                };
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) if first <= last => Part::Ports { protocol, first, last },
                    // Types of ICMP, and names of services, which ipset does not save.
                    _ if matches!(protocol, Some(None)) => Part::Other(text.to_owned()),
                    _ => return None,
                }
            }
            "iface" => match text.trim_start_matches("physdev:") {
                name if is_interface(name) => Part::Iface(name.to_owned()),
                _ => return None,
            },
            _ => Part::Other(text.to_owned()),
        })
    }
}

impl Sets {
    /// The test for a set in a rule, with the sides of the packet that its fields are compared with.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn test(&self, name: &str, sides: &str) -> Result<Test, String> {
        let sets = self.meant(name);
        if self.get(name).is_none() {
            return Err(format!(
                "the members of set {name} are not known; give what ipset save writes with --ipset FILE"
            ));
        }
        let sides: Vec<&str> = sides.split(',').collect();
        let mut addresses = Addresses::default();
        let mut members = Vec::new();
        let is_plain = |set: &Set| matches!(set.fields().as_slice(), ["ip" | "net"]);
        let plain = sets.iter().all(|(_, set)| is_plain(set));
        for (name, set) in &sets {
            if let Some(why) = &set.unusable {
                return Err(format!("set {name}: {why}"));
            }
            let fields = set.fields();
            if sides.len() < fields.len() {
                return Err(format!("set {name} of kind {} needs {} of src and dst", set.kind, fields.len()));
            }
            if let Some((field, side)) = fields.iter().zip(&sides).find(|(field, side)| !can_be_asked(field, side)) {
                return Err(format!("a ruleset has no condition for the {field} of set {name} ({side})"));
            }
            if plain {
                addresses.add(set.addresses());
            }
            // A packet is of a list when it is of one of its sets, whatever the others say.
            if sets.len() > 1
                && !plain
                && (set.kind == "hash:net,iface" || set.members.values().any(|nomatch| *nomatch))
            {
                return Err(format!("a ruleset has no condition for a list with set {name}, which has exceptions"));
            }
            for (parts, nomatch) in &set.members {
                let member = member(parts, &sides, *nomatch);
                match set.kind.as_str() {
                    // The kernel looks no further than the longest prefix that a member has, of whatever interface it
                    // is
                    // (hash_netiface4_data_equal).
                    "hash:net,iface" => members.extend(member.into_iter().flat_map(|member| {
                        let rank = member.rank * 2;
                        let others = Member { iface: None, counts: Some(false), rank, ..member.clone() };
                        [Member { rank: rank + 1, ..member }, others]
                    })),
                    _ => members.extend(member),
                }
            }
        }
        if !plain {
            return Ok(Test::Tuple(members));
        }
        Ok(if sides[0] == "src" { Test::Source(addresses) } else { Test::Local(addresses) })
    }

    /// The sets of addresses, as a ruleset can have them.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, Vec<Prefix>)> + '_ {
        self.iter().filter_map(|(name, set)| {
            let plain = matches!(set.kind.as_str(), "hash:ip" | "hash:net" | "bitmap:ip");
            let family = set.family.filter(|_| plain && set.members.values().all(|nomatch| !nomatch))?;
            let ranges = set.members.keys().filter_map(|parts| parts.first()?.address());
            Some((name.clone(), prefixes(family, Addresses::new(ranges).of(family))))
        })
    }
}

impl Set {
    /// The addresses of a set of addresses alone.
    fn addresses(&self) -> Addresses {
        let member = |(parts, nomatch): (&Vec<Part>, &bool)| Some((parts.first()?.address()?, !nomatch));
        let all: Vec<(Range, bool)> = self.members.iter().filter_map(member).collect();
        match all.iter().all(|(_, counts)| *counts) {
            true => Addresses::new(all.into_iter().map(|(range, _)| range)),
            false => Addresses::with_exceptions(&all),
        }
    }
}

/// Whether a ruleset knows this of packets. The interface of `dst` is the one on which packets leave.
fn can_be_asked(field: &str, side: &str) -> bool {
    match field {
        "ip" | "net" => matches!(side, "src" | "dst"),
        "port" => side == "dst",
        "iface" => side == "src",
        _ => false,
    }
}

/// A member as a test; none when no packet can be of it.
fn member(parts: &[Part], sides: &[&str], nomatch: bool) -> Option<Member> {
    let mut member = Member { counts: Some(!nomatch), ..Member::default() };
    let both = |one: Option<(u128, u128)>, range: &Range| {
        let (first, last) = one.unwrap_or((0, u128::MAX));
        let (first, last) = (first.max(range.first), last.min(range.last));
        (first <= last).then_some((first, last))
    };
    for (part, side) in parts.iter().zip(sides) {
        match part {
            Part::Address(range) => {
                if member.family.replace(range.family).is_some_and(|family: Family| family != range.family) {
                    return None;
                }
                member.rank = member.rank * 129 + len(range);
                match *side {
                    "src" => member.source = Some(both(member.source, range)?),
                    _ => member.local = Some(both(member.local, range)?),
                }
            }
            Part::Ports { protocol, first, last } => {
                if let Some(protocol) = protocol {
                    member.protocol = Some((*protocol)?);
                }
                member.ports = Some((*first, *last));
            }
            Part::Iface(name) => member.iface = Some(name.clone()),
            Part::Other(_) => return None,
        }
    }
    Some(member)
}
