//! Port ranges: the leaf of every port for the rules of a prefix.

use std::cmp::Reverse;

use super::search::Interval;
use crate::image::format::{Leaf, port_key};
use crate::rule::{Protocol, Services};
use crate::ruleset::{Entry, Ruleset, Shape, ShapeId};

/// The most rules that count as few.
const FEW: usize = 8;

/// This many ranges are numbered by how many prefixes use them.
const MOST_USED: usize = 1 << 12;

/// Disjoint ranges that cover all ports of both protocols, each with its leaf. `None` when the rules of the prefix are
/// many or have conditions.
pub(super) fn of_rules<E: Entry>(ruleset: &Ruleset, rules: &[E]) -> Option<Vec<Interval<u32>>> {
    let shapes = rules.iter().map(|rule| &ruleset.shapes[rule.shape() as usize]);
    if rules.len() > FEW || !shapes.clone().all(Shape::is_unconditional) {
        return None;
    }
    let keys = |shape: &Shape| [shape.ports.first(), shape.ports.last()].map(|port| port_key(shape.protocol, port));
    let mut borders: Vec<u32> = Vec::with_capacity(2 * FEW + 1);
    borders.push(0);
    borders.extend(shapes.clone().flat_map(|shape| [keys(shape)[0], keys(shape)[1] + 1]));
    borders.sort_unstable();
    borders.dedup();
    let mut ranges: Vec<Interval<u32>> = Vec::with_capacity(borders.len());
    for key in borders {
        let holds = |shape: &&Shape| (keys(shape)[0]..=keys(shape)[1]).contains(&key);
        let narrowest = shapes.clone().filter(holds).min_by_key(|shape| shape.ports.width());
        let leaf = narrowest.map_or(Leaf::MISS, |shape| Leaf::of(shape.verdict, &ruleset.services));
        if ranges.last().is_none_or(|last| last.value[0] != leaf.0) {
            ranges.push(Interval { key, value: [leaf.0, 0] });
        }
    }
    Some(ranges)
}

/// The ranges of an inner prefix. Ports without a leaf get the leaf of the outer prefix.
pub(super) fn overlay(inner: &[Interval<u32>], outer: &[Interval<u32>]) -> Vec<Interval<u32>> {
    let leaf = |ranges: &[Interval<u32>], key: u32| {
        ranges.iter().rev().find(|range| range.key <= key).map_or(Leaf::MISS.0, |range| range.value[0])
    };
    let mut keys: Vec<u32> = inner.iter().chain(outer).map(|range| range.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut ranges: Vec<Interval<u32>> = Vec::with_capacity(keys.len());
    for key in keys {
        let found = leaf(inner, key);
        let value = [if found == Leaf::MISS.0 { leaf(outer, key) } else { found }, 0];
        if ranges.last().is_none_or(|last| last.value != value) {
            ranges.push(Interval { key, value });
        }
    }
    ranges
}

/// A range of ports of one protocol, and its leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) udp: u32,
    pub(super) leaf: Leaf,
}

/// The ranges that have a leaf, when they are few; otherwise none. A range inside another one comes before it.
pub(super) fn few(ranges: &[Interval<u32>]) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for (at, range) in ranges.iter().enumerate().filter(|(_, range)| range.value[0] != Leaf::MISS.0) {
        let last = ranges.get(at + 1).map_or(2 << 16, |after| after.key) - 1;
        for (udp, ports) in [(0, 0..1 << 16), (1, 1 << 16..2 << 16)] {
            let (first, last) = (range.key.max(ports.start), last.min(ports.end - 1));
            if first <= last {
                found.push(Range { first: first & 0xffff, last: last & 0xffff, udp, leaf: Leaf(range.value[0]) });
            }
        }
        if found.len() > 3 {
            return Vec::new();
        }
    }
    match *found.as_slice() {
        [before, inside, after] if before.goes_on_in(inside) && inside.goes_on_in(after) => {
            let around = Range { last: after.last, ..before };
            if before.leaf == after.leaf { vec![inside, around] } else { Vec::new() }
        }
        _ => found,
    }
}

impl Range {
    /// The ports of a rule without conditions.
    pub(super) fn of(shape: &Shape, services: &Services) -> Self {
        let (first, last) = (shape.ports.first().into(), shape.ports.last().into());
        let udp = u32::from(shape.protocol == Protocol::Udp);
        Self { first, last, udp, leaf: Leaf::of(shape.verdict, services) }
    }

    fn goes_on_in(self, next: Self) -> bool {
        self.udp == next.udp && self.last + 1 == next.first
    }
}

/// The rules without conditions that most prefixes use, alone or with one other rule. Their ranges come first, in few
/// cache lines.
pub(super) fn most_used(ruleset: &Ruleset) -> Vec<ShapeId> {
    let mut uses = vec![0_u32; ruleset.shapes.len()];
    count_few(&ruleset.v4, &mut uses);
    count_few(&ruleset.v6, &mut uses);
    let mut ids: Vec<ShapeId> = (0..).zip(&uses).filter(|(_, uses)| **uses > 0).map(|(id, _)| id).collect();
    ids.retain(|id| ruleset.shapes[*id as usize].is_unconditional());
    ids.sort_by_key(|id| Reverse(uses[*id as usize]));
    ids.truncate(MOST_USED);
    ids
}

/// Counts how often prefixes with one or two rules use each shape.
fn count_few<E: Entry>(entries: &[E], uses: &mut [u32]) {
    let groups = entries.chunk_by(|a, b| a.same_local(*b)).filter(|group| group.len() <= 2);
    groups.flatten().for_each(|entry| uses[entry.shape() as usize] += 1);
}
