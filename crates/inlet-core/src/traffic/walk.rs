//! Walks the addresses of a family: turns nested prefixes into ranges of addresses that have the same rules.

use std::ops::ControlFlow;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::cells::{Cell, Level, Part, Winner, cells};
use super::sides::{Side, Sides};
use super::{Addr, Moved};
use crate::area::AddrRange;
use crate::rule::{Prefix, Rule};
use crate::ruleset::{Entry, ShapeId, local_entry, split_group};

/// The rules of one prefix in one ruleset, as a number; 0 when it has none there.
type GroupId = u32;

/// The groups of all prefixes around an address, the shortest prefix first.
type Around = Box<[(GroupId, GroupId)]>;

/// How many combinations of rules are remembered. Where there are more, most occur once.
const REMEMBERED: usize = 1 << 14;

/// A prefix that the walk is inside of.
struct Open<K> {
    local: Prefix,
    last: K,
    groups: (GroupId, GroupId),
    differs: bool,
}

/// A walk over both rulesets at once.
pub(super) struct Walk<'a, 'r, K> {
    sides: &'a Sides<'r>,
    each: &'a mut dyn FnMut(Moved) -> ControlFlow<()>,
    /// From the shortest prefix to the longest.
    open: Vec<Open<K>>,
    /// How many of them differ.
    differing: usize,
    groups: (Groups, Groups),
    /// The packets whose answer differs, by the groups of the open prefixes.
    known: FxHashMap<Around, Rc<[Cell<K>]>>,
    /// The boxes of the range before, which the next range may extend.
    pending: Vec<Moved>,
}

/// Numbers of groups with several rules. A group with one rule has the number of its shape plus one.
struct Groups {
    shapes: usize,
    numbers: FxHashMap<Rc<[ShapeId]>, GroupId>,
    members: Vec<Rc<[ShapeId]>>,
}

impl<'a, 'r, K: Addr + std::hash::Hash> Walk<'a, 'r, K> {
    pub(super) fn new(sides: &'a Sides<'r>, each: &'a mut dyn FnMut(Moved) -> ControlFlow<()>) -> Self {
        let groups = (Groups::new(&sides.previous), Groups::new(&sides.new));
        Self { sides, each, open: Vec::new(), differing: 0, groups, known: FxHashMap::default(), pending: Vec::new() }
    }

    pub(super) fn run<E: Entry>(mut self, mut previous: &[E], mut new: &[E]) -> ControlFlow<()> {
        let mut at = K::WHOLE.0;
        while let Some(next) = [previous.first(), new.first()].into_iter().flatten().map(local_entry).min() {
            let (before, after) = (split_group(&mut previous, Some(next)), split_group(&mut new, Some(next)));
            let (first, last) = K::bounds(next.local());
            at = self.leave(at, Some(first))?;
            if at < first {
                self.stretch(at, first.before())?;
            }
            at = first;
            let differs = self.sides.differ(before, after);
            self.differing += usize::from(differs);
            let groups = (self.groups.0.number(before), self.groups.1.number(after));
            self.open.push(Open { local: next.local(), last, groups, differs });
        }
        self.leave(at, None)?;
        self.flush()
    }

    /// Leaves the prefixes that end before `next`, or all. Gives the address where the walk is then.
    fn leave(&mut self, mut at: K, next: Option<K>) -> ControlFlow<(), K> {
        while let Some(last) =
            self.open.last().map(|open| open.last).filter(|last| next.is_none_or(|next| *last < next))
        {
            if at <= last {
                self.stretch(at, last)?;
            }
            at = last.next().unwrap_or(last);
            let left = self.open.pop().is_some_and(|open| open.differs);
            self.differing -= usize::from(left);
            if last == K::WHOLE.1 {
                // The other open prefixes end here too.
                self.open.clear();
                self.differing = 0;
            }
        }
        ControlFlow::Continue(at)
    }

    /// Emits the boxes from `first` to `last`, which have the same rules.
    fn stretch(&mut self, first: K, last: K) -> ControlFlow<()> {
        if self.differing == 0 {
            return self.flush();
        }
        let local = AddrRange::new(first.ip(), last.ip());
        let cells = self.cells();
        let mut moved: Vec<Moved> = cells.iter().map(|cell| self.moved(local, cell)).collect();
        let ended = self.join(first, &mut moved);
        self.pending = moved;
        ended.into_iter().try_for_each(&mut *self.each)
    }

    /// Extends the boxes of the range before, and gives those that end.
    fn join(&mut self, first: K, moved: &mut [Moved]) -> Vec<Moved> {
        let mut ended = Vec::new();
        for (at, previous) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let adjoins = first > K::WHOLE.0 && previous.local.last() == first.before().ip();
            let same = |it: &Moved| it.differs_in_local_only(&previous);
            // Mostly the list is the same again.
            let goes_on = match moved.get(at) {
                _ if !adjoins => None,
                Some(it) if same(it) => Some(at),
                _ => moved.iter().position(same),
            };
            match goes_on {
                Some(at) => moved[at].local = AddrRange::new(previous.local.first(), moved[at].local.last()),
                None => ended.push(previous),
            }
        }
        ended
    }

    fn flush(&mut self) -> ControlFlow<()> {
        std::mem::take(&mut self.pending).into_iter().try_for_each(&mut *self.each)
    }

    /// The packets whose answer differs here, computed once for each combination of rules.
    fn cells(&mut self) -> Rc<[Cell<K>]> {
        let key: Around = self.open.iter().map(|open| open.groups).collect();
        if let Some(cells) = self.known.get(&key) {
            return cells.clone();
        }
        let level = |(previous, new): &(GroupId, GroupId)| Level {
            previous: self.groups.0.members(*previous),
            new: self.groups.1.members(*new),
        };
        let levels: Vec<Level> = key.iter().rev().map(level).collect();
        let cells: Rc<[Cell<K>]> = cells(self.sides, &levels).into();
        if self.known.len() == REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, cells.clone());
        cells
    }

    fn moved(&self, local: AddrRange, cell: &Cell<K>) -> Moved {
        let Cell { protocol, ports, part: Part { source, arrival, marks, winners } } = cell;
        let rule = |side: &Side<'_>, winner: Winner| -> Option<Rule> {
            winner.map(|(level, id)| side.shape(id).rule(self.open[self.open.len() - 1 - level].local))
        };
        Moved {
            protocol: *protocol,
            local,
            ports: *ports,
            source: source.map(|(first, last)| AddrRange::new(first.ip(), last.ip())),
            arrival: arrival.clone(),
            marks: marks.clone(),
            previous: rule(&self.sides.previous, winners.previous),
            new: rule(&self.sides.new, winners.new),
        }
    }
}

impl Groups {
    fn new(side: &Side<'_>) -> Self {
        Self { shapes: side.ruleset.shapes.len(), numbers: FxHashMap::default(), members: Vec::new() }
    }

    fn number<E: Entry>(&mut self, entries: &[E]) -> GroupId {
        match entries {
            [] => 0,
            [one] => one.shape() + 1,
            several => {
                let shapes: Rc<[ShapeId]> = several.iter().map(|entry| entry.shape()).collect();
                if let Some(known) = self.numbers.get(&shapes) {
                    return *known;
                }
                self.members.push(shapes.clone());
                let number = (self.shapes + self.members.len()) as GroupId;
                self.numbers.insert(shapes, number);
                number
            }
        }
    }

    fn members(&self, group: GroupId) -> Vec<ShapeId> {
        match (group, (group as usize).checked_sub(self.shapes + 1)) {
            (0, _) => Vec::new(),
            (_, Some(several)) => self.members[several].to_vec(),
            (single, None) => vec![single - 1],
        }
    }
}
