//! Reads the output of `ipset save`: the members of sets.

use std::collections::BTreeMap;

use ipnet::IpNet;

use inlet_core::{PortRange, Prefix, Protocol};

/// A set, by the kind of its members.
#[derive(Clone, Debug)]
pub(super) enum Set {
    Addresses(Vec<Prefix>),
    Ports(Vec<PortRange>),
    /// Addresses with a port each, of one protocol.
    Pairs(Vec<(Prefix, Protocol, PortRange)>),
    /// It cannot be used, for this reason.
    Other(String),
}

/// Reads the lines that are about sets.
pub(super) fn read(text: &str) -> BTreeMap<String, Set> {
    let mut sets = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["create", name, kind, ..] => {
                sets.insert((*name).to_owned(), Set::new(kind));
            }
            ["add", name, member, options @ ..] => {
                if let Some(set) = sets.get_mut(*name) {
                    set.add(member, options);
                }
            }
            _ => {}
        }
    }
    sets
}

impl Set {
    fn new(kind: &str) -> Self {
        match kind {
            "hash:ip" | "hash:net" | "bitmap:ip" => Self::Addresses(Vec::new()),
            "bitmap:port" => Self::Ports(Vec::new()),
            "hash:ip,port" | "hash:net,port" => Self::Pairs(Vec::new()),
            other => Self::Other(format!("sets of kind {other} have no counterpart")),
        }
    }

    fn add(&mut self, member: &str, options: &[&str]) {
        if options.contains(&"nomatch") {
            *self = Self::Other("it has members that do not match (nomatch)".to_owned());
            return;
        }
        let added = match self {
            Self::Addresses(all) => prefix(member).map(|prefix| all.push(prefix)),
            Self::Ports(all) => {
                ports(member.trim_start_matches("tcp:").trim_start_matches("udp:")).map(|ports| all.push(ports))
            }
            Self::Pairs(all) => pair(member).map(|pair| all.push(pair)),
            Self::Other(_) => return,
        };
        if added.is_none() {
            *self = Self::Other(format!("its member {member} has no counterpart"));
        }
    }
}

/// An address or prefix as firewalls write it.
pub(super) fn prefix(text: &str) -> Option<Prefix> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))?;
    Prefix::new(net.trunc()).ok()
}

/// `80`, `8000-8999` or `8000:8999`, where an end may be left out.
pub(super) fn ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once([':', '-']).unwrap_or((text, text));
    let number = |text: &str, left_out: u16| if text.is_empty() { Some(left_out) } else { text.parse().ok() };
    let (first, last) = (number(first, 1)?, number(last, u16::MAX)?);
    // Port 0 stands for the lowest port. No packet of interest has it.
    PortRange::new(first.max(1), last).ok()
}

fn pair(member: &str) -> Option<(Prefix, Protocol, PortRange)> {
    let (addr, port) = member.split_once(',')?;
    let (protocol, port) = port.split_once(':')?;
    Some((prefix(addr)?, protocol.parse().ok()?, ports(port)?))
}
