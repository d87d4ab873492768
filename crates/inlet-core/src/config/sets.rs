//! Named sets of prefixes, inline or from a text file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::str::FromStr;

use ipnet::{Ipv4Subnets, Ipv6Subnets};

use crate::rule::{Prefix, PrefixError};

/// The sets of a ruleset by name. A set has each prefix once.
#[derive(Default)]
pub(super) struct Sets(BTreeMap<String, Vec<Prefix>>);

/// A prefix, or the name of a set with an `@` before it.
pub(super) enum PrefixOrSet {
    Prefix(Prefix),
    Set(String),
}

impl PrefixOrSet {
    /// The prefix, when it is one and no set.
    pub(super) fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Prefix(prefix) => Some(*prefix),
            Self::Set(_) => None,
        }
    }
}

impl FromStr for PrefixOrSet {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text.strip_prefix('@') {
            Some(name) => Ok(Self::Set(name.to_owned())),
            None => text.parse().map(Self::Prefix),
        }
    }
}

impl Sets {
    /// Adds a set; false when the name is taken.
    pub(super) fn add(&mut self, name: &str, mut prefixes: Vec<Prefix>) -> bool {
        prefixes.sort_unstable();
        prefixes.dedup();
        self.0.insert(name.to_owned(), prefixes).is_none()
    }

    /// The prefix, or the prefixes of the set; `None` when there is no such set.
    pub(super) fn prefixes<'a>(&'a self, text: &'a PrefixOrSet) -> Option<&'a [Prefix]> {
        match text {
            PrefixOrSet::Prefix(prefix) => Some(std::slice::from_ref(prefix)),
            PrefixOrSet::Set(name) => self.0.get(name).map(Vec::as_slice),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }
}

/// A prefix of a list, or the prefixes of a range of addresses.
pub(super) enum Listed {
    One(Prefix),
    Several(Vec<Prefix>),
}

/// Reads a list as feeds have them: a prefix or a range a line, other text may follow; each with its bytes, or why it
/// is none.
///
/// `#`, `;` and `//` begin comments. Prefixes may be short (`10/8`) and have a netmask in place of the length. Ranges
/// are `FIRST-LAST`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (Range<usize>, Result<Listed, PrefixError>)> {
    text.lines().filter_map(move |line| {
        let line = line.trim_start_matches('\u{feff}');
        let end = [line.find(['#', ';']), line.find("//")].into_iter().flatten().min().unwrap_or(line.len());
        let words = |text: &str| text.trim_start().find(|c: char| c.is_whitespace() || c == ',').unwrap_or(text.len());
        let rest = line[..end].trim();
        let first = &rest[..words(rest).min(rest.len())];
        let start = first.as_ptr() as usize - text.as_ptr() as usize;
        (!first.is_empty()).then(|| (start..start + first.len(), listed(first, rest[first.len()..].trim())))
    })
}

fn listed(word: &str, more: &str) -> Result<Listed, PrefixError> {
    // Most lines are prefixes as they should be.
    let error = match word.parse::<Prefix>() {
        Ok(prefix) => {
            let next = more.split_whitespace().next().unwrap_or_default();
            let is_range = word.parse::<IpAddr>().is_ok() && next.starts_with('-');
            return match (is_range, netmask(next).filter(|_| !word.contains('/'))) {
                (true, _) => range(word, more.trim_start_matches('-').trim()),
                (false, Some(len)) => with_len(word, len).map(Listed::One),
                (false, None) => Ok(Listed::One(prefix)),
            };
        }
        Err(error) => error,
    };
    match (word.split_once('-'), word.split_once('/')) {
        (Some((first, last)), _) => range(first, last).map_err(|_| error),
        (None, Some((addr, mask))) => match netmask(mask) {
            Some(len) => with_len(addr, len).map(Listed::One),
            None => short(addr)
                .zip(mask.parse().ok())
                .map_or(Err(error), |(addr, len)| with_len(&addr, len).map(Listed::One)),
        },
        (None, None) => Err(error),
    }
}

fn with_len(addr: &str, len: u8) -> Result<Prefix, PrefixError> {
    format!("{addr}/{len}").parse()
}

/// The length that a netmask stands for.
fn netmask(text: &str) -> Option<u8> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() == bits.count_ones() && bits != 0).then_some(bits.leading_ones() as u8)
}

/// An IPv4 address of which the last numbers are left out.
fn short(text: &str) -> Option<String> {
    let numbers: Vec<&str> = text.split('.').collect();
    let is_number = |text: &&str| text.parse::<u8>().is_ok();
    let all = numbers.len() < 4 && numbers.iter().all(is_number);
    all.then(|| format!("{text}{}", ".0".repeat(4 - numbers.len())))
}

/// The fewest prefixes of a range.
fn range(first: &str, last: &str) -> Result<Listed, PrefixError> {
    let wrong = || PrefixError::Syntax(format!("{first}-{last}"));
    let last = last.split([' ', '\t', ',']).next().unwrap_or_default();
    let prefixes: Vec<Prefix> = match (first.parse(), last.parse()) {
        (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(|net| Prefix::new(net.into())).collect::<Result<_, _>>()?
        }
        (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(|net| Prefix::new(net.into())).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    Ok(Listed::Several(prefixes))
}

/// Puts what a line has into a list.
pub(super) fn put(prefixes: &mut Vec<Prefix>, listed: Listed) {
    match listed {
        Listed::One(prefix) => prefixes.push(prefix),
        Listed::Several(several) => prefixes.extend(several),
    }
}

/// The prefixes of a list, without those that lie inside others.
pub(super) fn without_inner(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_unstable();
    let mut around: Option<Prefix> = None;
    prefixes.retain(|prefix| {
        let is_inner = around.is_some_and(|around| around.covers(prefix));
        if !is_inner {
            around = Some(*prefix);
        }
        !is_inner
    });
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let (mut prefixes, mut wrong) = (Vec::new(), Vec::new());
        for (span, listed) in lines(text) {
            match listed {
                Ok(listed) => put(&mut prefixes, listed),
                Err(error) => wrong.push(format!("{}: {error}", &text[span])),
            }
        }
        (without_inner(prefixes).iter().map(Prefix::to_string).collect(), wrong)
    }

    #[test]
    fn lists_as_feeds_have_them() {
        let text = "\u{feff}# a feed\r\n; of\r\n// many forms\r\n1.10.16.0/20 ; SBL256894\r\n\
            192.0.2.0/24\tsome text\r\n\
            10/8\n172.16/12 # short\n198.51.100.0/255.255.255.0\n203.0.113.0 255.255.255.128\n\
            100.64.0.1-100.64.0.6\n100.65.0.0 - 100.65.0.255 name\n2001:db8::/32,DE\n2001:db9::-2001:db9::3\n\
            10.1.0.0/16\n10.0.0.0/8\n10.2.3.4\n   \n";
        let expected = [
            "1.10.16.0/20",
            "10.0.0.0/8",
            "100.64.0.1/32",
            "100.64.0.2/31",
            "100.64.0.4/31",
            "100.64.0.6/32",
            "100.65.0.0/24",
            "172.16.0.0/12",
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/25",
            "2001:db8::/32",
            "2001:db9::/126",
        ];
        let (prefixes, wrong) = read(text);
        assert_eq!(prefixes, expected);
        assert_eq!(wrong, [""; 0]);
    }

    #[test]
    fn what_is_no_prefix_is_told_with_its_text() {
        let text =
            "hello world\n192.0.2.0/33\n1.2.3.9-1.2.3.1\n198.51.100.1/24\n300/8\n10.0.0.0/255.0.255.0\n192.0.2.1\n";
        let (prefixes, wrong) = read(text);
        assert_eq!(prefixes, ["192.0.2.1/32"]);
        let starts: Vec<&str> = wrong.iter().map(|text| text.split(": ").next().unwrap()).collect();
        let lines = ["hello", "192.0.2.0/33", "1.2.3.9-1.2.3.1", "198.51.100.1/24", "300/8", "10.0.0.0/255.0.255.0"];
        assert_eq!(starts, lines);
    }
}
