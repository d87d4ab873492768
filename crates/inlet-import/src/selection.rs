//! The packets that a firewall rule matches, as far as a ruleset can express them.

use std::collections::BTreeSet;

use inlet_core::{Family, InterfaceName, Match, PortRange, Prefix, Protocol};

/// Addresses of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    Any,
    /// These; all members of a set when it is named.
    These(Option<String>, Vec<Prefix>),
}

/// A condition that must not hold.
#[derive(Clone, Debug)]
pub(super) enum Except {
    Local(Addresses),
    Source(Addresses),
    Ports(Vec<PortRange>),
    Iface(InterfaceName),
}

/// Conditions that must all hold.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) protocols: BTreeSet<Protocol>,
    pub(super) families: BTreeSet<Family>,
    pub(super) local: Addresses,
    pub(super) ports: Vec<PortRange>,
    pub(super) source: Addresses,
    pub(super) iface: Option<InterfaceName>,
    pub(super) except: Vec<Except>,
    /// Whether two of the conditions contradict each other.
    pub(super) nothing: bool,
}

impl Selection {
    /// All packets.
    pub(super) fn all() -> Self {
        Self {
            protocols: Protocol::ALL.into(),
            families: Family::ALL.into(),
            local: Addresses::Any,
            ports: vec![PortRange::ANY],
            source: Addresses::Any,
            iface: None,
            except: Vec::new(),
            nothing: false,
        }
    }

    pub(super) fn iface(&mut self, name: InterfaceName) {
        self.nothing |= self.iface.as_ref().is_some_and(|other| *other != name);
        self.iface = Some(name);
    }

    /// The packets that both select.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.protocols = &self.protocols & &other.protocols;
        both.families = &self.families & &other.families;
        both.local = self.local.and(&other.local);
        both.source = self.source.and(&other.source);
        both.ports = meet_ports(&self.ports, &other.ports);
        both.except.extend(other.except.iter().cloned());
        both.nothing |= other.nothing;
        if let Some(name) = &other.iface {
            both.iface(name.clone());
        }
        both
    }

    /// Keeps each port and prefix once, and only the families that local and source prefixes share.
    pub(super) fn settle(&mut self) {
        self.ports = joined(std::mem::take(&mut self.ports));
        let Self { families, local, source, .. } = self;
        let has = |addresses: &Addresses, family: Family| match addresses {
            Addresses::Any => true,
            Addresses::These(_, prefixes) => prefixes.iter().any(|prefix| prefix.family() == family),
        };
        families.retain(|family| has(local, *family) && has(source, *family));
        [local, source].into_iter().for_each(|addresses| addresses.keep(families));
    }

    /// Whether it selects no packet.
    pub(super) fn is_empty(&self) -> bool {
        self.nothing || self.protocols.is_empty() || self.ports.is_empty() || self.families.is_empty()
    }

    /// Whether one exception covers an entry of this interface.
    pub(super) fn excepts(&self, entry: &Match, iface: &Option<InterfaceName>) -> bool {
        let has = |addresses: &Addresses, prefix: Option<Prefix>| match (addresses, prefix) {
            (Addresses::Any, _) => true,
            (Addresses::These(_, prefixes), Some(prefix)) => prefixes.iter().any(|around| around.covers(&prefix)),
            _ => false,
        };
        self.except.iter().any(|except| match except {
            Except::Local(addresses) => has(addresses, Some(entry.local)),
            Except::Source(addresses) => has(addresses, entry.source),
            Except::Ports(ports) => {
                let around =
                    |range: &PortRange| range.contains(entry.ports.first()) && range.contains(entry.ports.last());
                ports.iter().any(around)
            }
            Except::Iface(name) => iface.as_ref() == Some(name),
        })
    }

    /// The local prefixes.
    pub(super) fn locals(&self) -> Vec<Prefix> {
        match &self.local {
            Addresses::These(_, prefixes) => prefixes.clone(),
            Addresses::Any => self.families.iter().map(|family| family.everywhere()).collect(),
        }
    }

    /// The sources, or one `None`.
    pub(super) fn sources(&self) -> Vec<Option<Prefix>> {
        match &self.source {
            Addresses::Any => vec![None],
            Addresses::These(_, prefixes) => {
                prefixes.iter().map(|prefix| (prefix.len() > 0).then_some(*prefix)).collect()
            }
        }
    }
}

impl Addresses {
    pub(super) fn one(prefix: Prefix) -> Self {
        Self::These(None, vec![prefix])
    }

    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, these) | (these, Self::Any) => these.clone(),
            (Self::These(name, a), Self::These(other, b)) if a == b => {
                Self::These(name.clone().or(other.clone()), a.clone())
            }
            (Self::These(_, a), Self::These(_, b)) => {
                let meet = |a: &Prefix, b: &Prefix| if a.covers(b) { Some(*b) } else { b.covers(a).then_some(*a) };
                let both: BTreeSet<Prefix> = a.iter().flat_map(|a| b.iter().filter_map(move |b| meet(a, b))).collect();
                Self::These(None, both.into_iter().collect())
            }
        }
    }

    fn keep(&mut self, families: &BTreeSet<Family>) {
        if let Self::These(name, prefixes) = self {
            prefixes.sort();
            prefixes.dedup();
            let before = prefixes.len();
            prefixes.retain(|prefix| families.contains(&prefix.family()));
            if prefixes.len() != before {
                *name = None;
            }
        }
    }
}

fn meet_ports(a: &[PortRange], b: &[PortRange]) -> Vec<PortRange> {
    let meet = |a: &PortRange, b: &PortRange| PortRange::new(a.first().max(b.first()), a.last().min(b.last())).ok();
    a.iter().flat_map(|a| b.iter().filter_map(move |b| meet(a, b))).collect()
}

/// The same ports in ranges that do not overlap.
fn joined(mut ports: Vec<PortRange>) -> Vec<PortRange> {
    ports.sort();
    ports.dedup_by(|next, before| {
        let overlap = before.overlaps(*next);
        if overlap && let Ok(both) = PortRange::new(before.first(), before.last().max(next.last())) {
            *before = both;
        }
        overlap
    });
    ports
}

/// The ports that are in none of these ranges.
pub(super) fn all_but(ports: &[PortRange]) -> Vec<PortRange> {
    let mut sorted: Vec<PortRange> = ports.to_vec();
    sorted.sort();
    let (mut left, mut next) = (Vec::new(), 1_u32);
    for range in sorted {
        left.extend(u16::try_from(next).ok().and_then(|next| PortRange::new(next, range.first() - 1).ok()));
        next = next.max(u32::from(range.last()) + 1);
    }
    left.extend(u16::try_from(next).ok().and_then(|next| PortRange::new(next, u16::MAX).ok()));
    left
}
