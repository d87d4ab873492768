//! Port tables: the leaf of every port of both protocols for the rules of one prefix.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::conditions::{Condition, Conditions, Store};
use super::ranges::{Range, few, most_used, of_rules, overlay};
use super::search::{Interval, Searches};
use crate::image::format::{
    HAS_LARGE, HAS_ONE, HAS_SMALL, HAS_TWO, Header, Leaf, MAX_STEPS, PORTS_LARGE, PORTS_ONE, PORTS_TWO, RANGE_BITS,
    SMALL_RANGES, port_key,
};
use crate::ruleset::{Entry, Ruleset, Shape, ShapeId};

/// The words of a port table of one cache line: the first port of each range, then the leaves.
pub(super) const SMALL_WORDS: usize = 2 * SMALL_RANGES;

/// One port needs more conditions than the program searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManySteps;

/// The port tables of an image. Equal tables are made once.
pub(super) struct Tables<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) searches: Searches,
    pub(super) cells: Vec<u32>,
    /// Ranges of ports: first and last port, and the leaf with the bit of the protocol.
    pub(super) ranges: Vec<u32>,
    range_numbers: FxHashMap<[u32; 2], u32>,
    pub(super) conditions: Conditions,
    /// The table of a prefix with only this rule; 0 when not made yet.
    of_shape: Vec<u32>,
    of_shapes: FxHashMap<Box<[ShapeId]>, u32>,
    pub(super) steps: u32,
    pub(super) levels: u32,
    /// The kinds of tables that were made.
    pub(super) kinds: u32,
}

/// A port range of one protocol and the rules that have it, which differ in source, interface and mark only.
struct Group<'s> {
    first: u32,
    last: u32,
    shapes: &'s [Shape],
}

impl<'a> Tables<'a> {
    pub(super) fn new(ruleset: &'a Ruleset) -> Self {
        // Number 0 means: no table.
        let mut tables = Self::kept(ruleset, &Header::default(), Searches::default(), vec![0; SMALL_WORDS], &[]);
        for id in most_used(ruleset) {
            tables.range_of(id);
        }
        tables
    }

    /// Starts from the tables of the previous image.
    pub(super) fn kept(
        ruleset: &'a Ruleset,
        header: &Header,
        searches: Searches,
        cells: Vec<u32>,
        ranges: &[u32],
    ) -> Self {
        // Behind the last range is unused room without leaves.
        let ranges: Vec<[u32; 2]> =
            ranges.chunks_exact(2).map(|range| [range[0], range[1]]).take_while(|range| range[1] != 0).collect();
        Self {
            ruleset,
            searches,
            cells,
            range_numbers: ranges.iter().copied().zip(0..).collect(),
            ranges: ranges.into_flattened(),
            conditions: Conditions::default(),
            of_shape: vec![0; ruleset.shapes.len()],
            of_shapes: FxHashMap::default(),
            steps: header.steps,
            levels: header.levels,
            kinds: header.port_tables,
        }
    }

    /// The table for the rules of one prefix, given in canonical order.
    pub(super) fn of<E: Entry>(&mut self, rules: &[E]) -> Result<u32, TooManySteps> {
        match rules {
            [one] => self.of_one(one.shape()),
            [one, other] => match self.of_two(one.shape(), other.shape()) {
                Some(table) => Ok(table),
                None => self.of_several(rules),
            },
            _ => self.of_several(rules),
        }
    }

    fn of_one(&mut self, id: ShapeId) -> Result<u32, TooManySteps> {
        let known = self.of_shape[id as usize];
        if known != 0 {
            return Ok(known);
        }
        let table = match self.ruleset.shapes[id as usize].is_unconditional() {
            true => {
                self.kinds |= HAS_ONE;
                PORTS_ONE | self.range_of(id)
            }
            false => {
                let ranges = self.disjoint(&[id])?;
                self.table(&ranges)
            }
        };
        self.of_shape[id as usize] = table;
        Ok(table)
    }

    /// The table of two rules that form two ranges: neither has conditions, and they do not cross.
    fn of_two(&mut self, one: ShapeId, other: ShapeId) -> Option<u32> {
        let [first, second] = [one, other].map(|id| &self.ruleset.shapes[id as usize]);
        let contains = |outer: &Shape, inner: &Shape| {
            outer.ports.contains(inner.ports.first()) && outer.ports.contains(inner.ports.last())
        };
        let apart = first.protocol != second.protocol || !first.ports.overlaps(second.ports);
        if !apart && !contains(first, second) && !contains(second, first) {
            return None;
        }
        if !first.is_unconditional() || !second.is_unconditional() {
            return None;
        }
        let narrower_first = if first.ports.width() <= second.ports.width() { [one, other] } else { [other, one] };
        let [inner, outer] = narrower_first.map(|id| self.range_of(id));
        if (inner | outer) >> RANGE_BITS != 0 {
            return None;
        }
        self.kinds |= HAS_TWO;
        Some(PORTS_TWO | inner | outer << RANGE_BITS)
    }

    /// The number of the range of a rule without conditions.
    fn range_of(&mut self, id: ShapeId) -> u32 {
        self.range(Range::of(&self.ruleset.shapes[id as usize], &self.ruleset.services))
    }

    fn of_several<E: Entry>(&mut self, rules: &[E]) -> Result<u32, TooManySteps> {
        let ids: Vec<ShapeId> = rules.iter().map(|rule| rule.shape()).collect();
        if let Some(table) = self.of_shapes.get(ids.as_slice()) {
            return Ok(*table);
        }
        let ranges = match of_rules(self.ruleset, rules) {
            Some(ranges) => ranges,
            None => self.disjoint(&ids)?,
        };
        let table = self.table(&ranges);
        self.of_shapes.insert(ids.into(), table);
        Ok(table)
    }

    /// One table for the innermost of some nested prefixes, and how many prefixes it covers: at least two. The prefixes
    /// are given from the inside outwards, by their ranges.
    pub(super) fn of_nested<'r>(
        &mut self,
        outwards: impl Iterator<Item = Option<&'r [Interval<u32>]>>,
    ) -> Option<(u32, usize)> {
        let (mut together, mut ranges) = (0, Cow::Borrowed(&[][..]));
        for outer in outwards {
            let Some(outer) = outer else { break };
            let more = if together == 0 { Cow::Borrowed(outer) } else { Cow::Owned(overlay(&ranges, outer)) };
            if more.len() > SMALL_RANGES {
                break;
            }
            (together, ranges) = (together + 1, more);
        }
        (together > 1).then(|| (self.table(&ranges), together))
    }

    /// Disjoint ranges that cover all ports of both protocols, each with its leaf.
    fn disjoint(&mut self, ids: &[ShapeId]) -> Result<Vec<Interval<u32>>, TooManySteps> {
        let shapes: Vec<Shape> = ids.iter().map(|id| self.ruleset.shapes[*id as usize]).collect();
        let groups: Vec<Group<'_>> =
            shapes.chunk_by(|a, b| (a.protocol, a.ports) == (b.protocol, b.ports)).map(Group::of).collect();
        let mut borders: BTreeMap<u32, (Vec<usize>, Vec<usize>)> = BTreeMap::from([(0, Default::default())]);
        for (number, group) in groups.iter().enumerate() {
            borders.entry(group.first).or_default().0.push(number);
            borders.entry(group.last + 1).or_default().1.push(number);
        }
        let mut ranges: Vec<Interval<u32>> = Vec::with_capacity(borders.len());
        let mut open = BTreeSet::new();
        for (key, (starting, ending)) in borders {
            for number in ending {
                open.remove(&(groups[number].width(), number));
            }
            open.extend(starting.into_iter().map(|number| (groups[number].width(), number)));
            let narrowest_first: Vec<&Group<'_>> = open.iter().map(|(_, number)| &groups[*number]).collect();
            let leaf = self.leaf(&narrowest_first)?;
            if ranges.last().is_none_or(|last| last.value[0] != leaf.0) {
                ranges.push(Interval { key, value: [leaf.0, 0] });
            }
        }
        Ok(ranges)
    }

    /// The leaf for a port in these groups, the narrowest first. Groups of one width decide together, by source,
    /// interface and mark: ranges of one width may overlap when those differ.
    fn leaf(&mut self, groups: &[&Group<'_>]) -> Result<Leaf, TooManySteps> {
        let mut asked: Vec<Vec<Condition>> = Vec::new();
        for equal in groups.chunk_by(|a, b| a.width() == b.width()) {
            let rules: Vec<Condition> = equal.iter().flat_map(|group| group.shapes).map(Condition::of).collect();
            let decides = rules.iter().any(Condition::always_holds);
            asked.push(rules);
            if decides {
                break;
            }
            if asked.len() > MAX_STEPS as usize {
                return Err(TooManySteps);
            }
        }
        let mut leaf = Leaf::MISS;
        for rules in asked.into_iter().rev() {
            let mut store = Store {
                services: &self.ruleset.services,
                interfaces: &self.ruleset.interfaces,
                searches: &mut self.searches,
                cells: &mut self.cells,
            };
            leaf = self.conditions.leaf(rules, leaf, &mut store);
        }
        self.steps = self.steps.max(self.conditions.depth(leaf));
        if self.steps > MAX_STEPS { Err(TooManySteps) } else { Ok(leaf) }
    }

    fn table(&mut self, ranges: &[Interval<u32>]) -> u32 {
        let (kind, table) = match few(ranges).as_slice() {
            [one] => (HAS_ONE, PORTS_ONE | self.range(*one)),
            [first, second] if self.room_for_two() => {
                (HAS_TWO, PORTS_TWO | self.range(*first) | self.range(*second) << RANGE_BITS)
            }
            _ if ranges.len() <= SMALL_RANGES => (HAS_SMALL, self.small(ranges)),
            _ => (HAS_LARGE, self.large(ranges)),
        };
        self.kinds |= kind;
        table
    }

    /// Whether the numbers of two more ranges fit into [`RANGE_BITS`].
    fn room_for_two(&self) -> bool {
        self.ranges.len() / 2 + 2 <= 1 << RANGE_BITS
    }

    /// The number of a range.
    fn range(&mut self, range: Range) -> u32 {
        let words = [range.first | range.last << 16, range.leaf.of_protocol(range.udp).0];
        *self.range_numbers.entry(words).or_insert_with(|| {
            self.ranges.extend(words);
            (self.ranges.len() / 2 - 1) as u32
        })
    }

    fn small(&mut self, ranges: &[Interval<u32>]) -> u32 {
        let offset = self.cells.len().next_multiple_of(SMALL_WORDS);
        self.cells.resize(offset + SMALL_WORDS, 0);
        let last = ranges[ranges.len() - 1];
        for slot in 0..SMALL_RANGES {
            let range = ranges.get(slot).unwrap_or(&last);
            self.cells[offset + slot] = range.key;
            self.cells[offset + SMALL_RANGES + slot] = range.value[0];
        }
        offset as u32
    }

    fn large(&mut self, ranges: &[Interval<u32>]) -> u32 {
        let added = self.searches.add(ranges);
        self.levels = self.levels.max(added.levels);
        self.cells.push(added.entry);
        PORTS_LARGE | (self.cells.len() - 1) as u32
    }
}

impl<'s> Group<'s> {
    fn of(shapes: &'s [Shape]) -> Self {
        let Shape { protocol, ports, .. } = shapes[0];
        Self { first: port_key(protocol, ports.first()), last: port_key(protocol, ports.last()), shapes }
    }

    fn width(&self) -> u32 {
        self.last - self.first
    }
}
