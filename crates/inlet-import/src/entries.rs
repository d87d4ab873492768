//! Entries: rules with one prefix and one port range, indexed by prefix.

use std::collections::BTreeMap;

use super::selection::Selection;

use inlet_core::{IfaceId, InterfaceName, Match, PortRange, Prefix};

/// Entries by prefix, each with its step and its match.
#[derive(Default)]
pub(super) struct Index(BTreeMap<Prefix, Vec<(usize, Match)>>);

impl Index {
    pub(super) fn add(&mut self, step: usize, entry: Match) {
        self.0.entry(entry.local).or_default().push((step, entry));
    }

    pub(super) fn remove(&mut self, entry: &Match) {
        if let Some(all) = self.0.get_mut(&entry.local) {
            all.retain(|(_, other)| other != entry);
        }
    }

    pub(super) fn has(&self, entry: &Match) -> bool {
        self.0.get(&entry.local).is_some_and(|all| all.iter().any(|(_, other)| other == entry))
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(super) fn all(&self) -> Vec<(usize, Match)> {
        self.0.values().flatten().copied().collect()
    }

    /// The entries whose prefix is `local` or around it.
    pub(super) fn around(&self, local: Prefix) -> impl Iterator<Item = (usize, Match)> {
        let around = (0..=local.len()).filter_map(move |len| Prefix::holding(local.addr(), len));
        around.filter_map(|around| self.0.get(&around)).flatten().copied()
    }

    /// The entries that share a packet with `entry`.
    pub(super) fn meeting(&self, entry: &Match) -> impl Iterator<Item = (usize, Match)> {
        let entry = *entry;
        let inside = self.0.range(entry.local..).take_while(move |(prefix, _)| entry.local.covers(prefix));
        let inside = inside.flat_map(|(_, all)| all.iter().copied());
        self.around(entry.local).chain(inside).filter(move |(_, other)| meet(&entry, other).is_some())
    }

    /// The first step that covers `entry`.
    pub(super) fn first_around(&self, entry: &Match) -> Option<usize> {
        self.around(entry.local).filter(|(_, other)| meet(entry, other) == Some(*entry)).map(|(step, _)| step).min()
    }
}

/// The interfaces that rules name.
#[derive(Default)]
pub(super) struct Interfaces(pub(super) Vec<InterfaceName>);

impl Interfaces {
    pub(super) fn number(&mut self, name: &InterfaceName) -> IfaceId {
        let at = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.clone());
            self.0.len() - 1
        });
        IfaceId::new(at as u16)
    }
}

/// The entries of a selection.
pub(super) fn entries(selection: &Selection, ifaces: &mut Interfaces) -> Vec<Match> {
    let iface = selection.iface.as_ref().map(|name| ifaces.number(name));
    let (locals, sources) = (selection.locals(), selection.sources());
    let mut entries = Vec::new();
    for protocol in selection.protocols.iter().copied() {
        for local in locals.iter().copied() {
            for source in sources.iter().copied() {
                for ports in selection.ports.iter().copied() {
                    let entry = Match { protocol, local, ports, source, iface };
                    entries.extend(entry.same_family().then_some(entry));
                }
            }
        }
    }
    entries
}

/// The packets that both match.
pub(super) fn meet(a: &Match, b: &Match) -> Option<Match> {
    let local = if a.local.covers(&b.local) { b.local } else { b.local.covers(&a.local).then_some(a.local)? };
    let source = match (a.source, b.source) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) if a.covers(&b) => Some(b),
        (Some(a), Some(b)) if b.covers(&a) => Some(a),
        _ => return None,
    };
    let iface = match (a.iface, b.iface) {
        (None, other) | (other, None) => other,
        (a, b) if a == b => a,
        _ => return None,
    };
    let ports = PortRange::new(a.ports.first().max(b.ports.first()), a.ports.last().min(b.ports.last())).ok()?;
    (a.protocol == b.protocol).then_some(Match { protocol: a.protocol, local, ports, source, iface })
}
