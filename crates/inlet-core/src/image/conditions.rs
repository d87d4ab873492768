//! Conditions on the source and the interface: what decides among rules with one prefix and one port range.

use rustc_hash::FxHashMap;

use super::decision::Leaf;
use super::search::{Interval, Key, Searches};
use super::sweep::Sweep;
use crate::entry::Shape;
use crate::{Interface, Prefix, Services};

/// What leaves and searches are written to, and the names that rules are resolved with.
pub(super) struct Store<'a> {
    pub(super) services: &'a Services,
    pub(super) interfaces: &'a [Interface],
    pub(super) searches: &'a mut Searches,
    pub(super) cells: &'a mut Vec<u32>,
}

/// The searches by source and interface, each distinct one made once.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    known: FxHashMap<(Vec<Shape>, Leaf), Leaf>,
    /// How many searches follow one another at most from the cell of this place on.
    depths: FxHashMap<u32, u32>,
    /// How many levels of nodes any of the searches has at most.
    pub(super) levels: u32,
}

impl Conditions {
    /// How many searches by source or interface follow one another at most from this leaf on.
    pub(super) fn depth(&self, leaf: Leaf) -> u32 {
        match leaf.kind() {
            Leaf::BY_SOURCE | Leaf::BY_IFACE => self.depths.get(&leaf.number()).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// The leaf for rules that differ in source and interface only. Packets that match none of them get `otherwise`.
    pub(super) fn leaf(&mut self, shapes: &[Shape], otherwise: Leaf, store: &mut Store<'_>) -> Leaf {
        let key = (shapes.to_vec(), otherwise);
        if let Some(leaf) = self.known.get(&key) {
            return *leaf;
        }
        let anywhere = self.by_iface(shapes, None, otherwise, store);
        let leaf = match shapes.iter().find_map(|shape| shape.source) {
            None => anywhere,
            Some(source) if source.is_v6() => self.by_source::<u128>(shapes, anywhere, store),
            Some(_) => self.by_source::<u32>(shapes, anywhere, store),
        };
        self.known.insert(key, leaf);
        leaf
    }

    fn by_source<K: Key>(&mut self, shapes: &[Shape], anywhere: Leaf, store: &mut Store<'_>) -> Leaf {
        let mut sources: Vec<Prefix> = shapes.iter().filter_map(|shape| shape.source).collect();
        sources.sort();
        let mut sweep = Sweep::<K>::new([anywhere.0, 0], 2 * sources.len() + 1);
        let mut sorted: Vec<Shape> = shapes.to_vec();
        sorted.sort_by_key(|shape| shape.source);
        for same in sorted.chunk_by(|a, b| a.source == b.source) {
            let Some(source) = same[0].source else { continue };
            let (first, last) = K::bounds(source);
            let (outer, _) = sweep.advance(first);
            let leaf = self.by_iface(same, Some(source), Leaf(outer[0]), store);
            sweep.enter(first, last, [leaf.0, 0]);
        }
        self.search(Leaf::BY_SOURCE, &sweep.finish(), store)
    }

    /// The leaf for those of the rules that have this source: the one of the interface, or of none in particular.
    fn by_iface(&mut self, shapes: &[Shape], source: Option<Prefix>, outer: Leaf, store: &mut Store<'_>) -> Leaf {
        let mut otherwise = outer;
        let mut by_index: Vec<(u32, Leaf)> = Vec::new();
        for shape in shapes.iter().filter(|shape| shape.source == source) {
            let leaf = Leaf::of(shape.verdict, store.services);
            match shape.iface {
                None => otherwise = leaf,
                Some(id) => by_index.push((store.interfaces[id.index()].index, leaf)),
            }
        }
        by_index.retain(|(index, _)| *index != 0);
        if by_index.is_empty() {
            return otherwise;
        }
        by_index.sort_by_key(|(index, _)| *index);
        let mut sweep = Sweep::<u32>::new([otherwise.0, 0], 2 * by_index.len() + 1);
        for (index, leaf) in by_index {
            sweep.advance(index);
            sweep.enter(index, index, [leaf.0, 0]);
        }
        self.search(Leaf::BY_IFACE, &sweep.finish(), store)
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
