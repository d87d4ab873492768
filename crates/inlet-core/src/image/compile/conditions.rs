//! Conditions on source, interface and mark, which decide among rules with one prefix and one port range.

use rustc_hash::FxHashMap;

use super::search::{Interval, Searches};
use super::sweep::Sweep;
use crate::image::format::{Key, LEAF_BY_IFACE, LEAF_BY_MARK, LEAF_BY_SOURCE, Leaf};
use crate::rule::{Family, IfaceId, Interface, Mark, Prefix, Services, Verdict};
use crate::ruleset::Shape;

/// Where leaves and searches are written, and the names that rules are resolved with.
pub(super) struct Store<'a> {
    pub(super) services: &'a Services,
    pub(super) interfaces: &'a [Interface],
    pub(super) searches: &'a mut Searches,
    pub(super) cells: &'a mut Vec<u32>,
}

/// The rest of a rule once prefix and ports are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Condition {
    source: Option<Prefix>,
    iface: Option<IfaceId>,
    mark: Option<Mark>,
    verdict: Verdict,
}

impl Condition {
    pub(super) fn of(shape: &Shape) -> Self {
        Self { source: shape.source, iface: shape.iface, mark: shape.mark, verdict: shape.verdict }
    }

    pub(super) fn always_holds(&self) -> bool {
        self.source.is_none() && self.iface.is_none() && self.mark.is_none()
    }
}

/// The searches by source, interface and mark, each distinct one made once.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    known: FxHashMap<(Vec<Condition>, Leaf), Leaf>,
    /// The most searches in a row from each cell on.
    depths: FxHashMap<u32, u32>,
    /// The most levels of nodes in any of the searches.
    pub(super) levels: u32,
}

impl Conditions {
    /// The most searches by source, interface or mark in a row from this leaf on.
    pub(super) fn depth(&self, leaf: Leaf) -> u32 {
        match leaf.kind() {
            LEAF_BY_SOURCE | LEAF_BY_IFACE | LEAF_BY_MARK => self.depths.get(&leaf.number()).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// The leaf for rules that all differ in source, interface or mark. Packets that match none of them get
    /// `otherwise`.
    pub(super) fn leaf(&mut self, mut rules: Vec<Condition>, otherwise: Leaf, store: &mut Store<'_>) -> Leaf {
        rules.sort_unstable();
        let key = (rules, otherwise);
        if let Some(leaf) = self.known.get(&key) {
            return *leaf;
        }
        let rules = &key.0;
        let anywhere = self.by_iface(rules, None, otherwise, store);
        let leaf = match rules.iter().find_map(|rule| rule.source).map(|source| source.family()) {
            None => anywhere,
            Some(Family::V4) => self.by_source::<u32>(rules, anywhere, store),
            Some(Family::V6) => self.by_source::<u128>(rules, anywhere, store),
        };
        self.known.insert(key, leaf);
        leaf
    }

    /// Goes through the sources in address order, a source before those inside it.
    fn by_source<K: Key>(&mut self, rules: &[Condition], anywhere: Leaf, store: &mut Store<'_>) -> Leaf {
        let mut sweep = Sweep::<K>::new([anywhere.0, 0], 2 * rules.len() + 1);
        for same in rules.chunk_by(|a, b| a.source == b.source) {
            let Some(source) = same[0].source else { continue };
            let (first, last) = K::bounds(source);
            let (outer, _) = sweep.advance(first);
            let leaf = self.by_iface(same, Some(source), Leaf(outer[0]), store);
            sweep.enter(first, last, [leaf.0, 0]);
        }
        self.search(LEAF_BY_SOURCE, &sweep.finish(), store)
    }

    /// The leaf for the rules with this source, by interface.
    fn by_iface(&mut self, rules: &[Condition], source: Option<Prefix>, outer: Leaf, store: &mut Store<'_>) -> Leaf {
        let of_source = || rules.iter().filter(|rule| rule.source == source);
        let otherwise = self.by_mark(of_source().filter(|rule| rule.iface.is_none()), outer, store);
        let mut by_index: Vec<(u32, Leaf)> = Vec::new();
        let named: Vec<&Condition> = of_source().filter(|rule| rule.iface.is_some()).collect();
        // The rules are sorted, those of an interface are neighbours.
        for same in named.chunk_by(|a, b| a.iface == b.iface) {
            let index = same[0].iface.map_or(0, |id| store.interfaces[id.index()].index);
            if index != 0 {
                by_index.push((index, self.by_mark(same.iter().copied(), otherwise, store)));
            }
        }
        if by_index.is_empty() {
            return otherwise;
        }
        by_index.sort_by_key(|(index, _)| *index);
        let mut sweep = Sweep::<u32>::new([otherwise.0, 0], 2 * by_index.len() + 1);
        for (index, leaf) in by_index {
            sweep.advance(index);
            sweep.enter(index, index, [leaf.0, 0]);
        }
        self.search(LEAF_BY_IFACE, &sweep.finish(), store)
    }

    /// The leaf for the rules with one source and interface, by mark: a search for each mask, that of most bits first.
    fn by_mark<'c>(&mut self, rules: impl Iterator<Item = &'c Condition>, outer: Leaf, store: &mut Store<'_>) -> Leaf {
        let (mut unknown, mut marked): (Leaf, Vec<(Mark, Leaf)>) = (outer, Vec::new());
        for rule in rules {
            let leaf = Leaf::of(rule.verdict, store.services);
            match rule.mark {
                None => unknown = leaf,
                Some(mark) => marked.push((mark, leaf)),
            }
        }
        // Of two masks with as many bits only one can match, so their order does not matter.
        marked.sort_by_key(|(mark, _)| (mark.bits(), mark.mask(), mark.value()));
        let mut otherwise = unknown;
        for same in marked.chunk_by(|a, b| a.0.mask() == b.0.mask()) {
            let mut sweep = Sweep::<u32>::new([otherwise.0, 0], 2 * same.len() + 1);
            for (mark, leaf) in same {
                sweep.advance(mark.value());
                sweep.enter(mark.value(), mark.value(), [leaf.0, 0]);
            }
            otherwise = self.search(LEAF_BY_MARK, &sweep.finish(), store);
            store.cells.extend([same[0].0.mask(), unknown.0]);
        }
        otherwise
    }

    /// Adds a search whose values are leaves, and a cell that leads to it.
    fn search<K: Key>(&mut self, kind: u32, intervals: &[Interval<K>], store: &mut Store<'_>) -> Leaf {
        let below = intervals.iter().map(|interval| self.depth(Leaf(interval.value[0]))).max();
        let added = store.searches.add(intervals);
        self.levels = self.levels.max(added.levels);
        let cell = store.cells.len() as u32;
        store.cells.push(added.entry);
        self.depths.insert(cell, below.unwrap_or(0) + 1);
        Leaf::new(kind, cell)
    }
}
