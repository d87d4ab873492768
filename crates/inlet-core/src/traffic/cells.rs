//! The packets to one address whose answer differs: by port, then source, then interface, then mark.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::by_mark::by_mark;
use super::segments::{Numbered, segments};
use super::sides::Sides;
use super::{Addr, Step};
use crate::area::{Arrival, Marks};
use crate::rule::{Mark, PortRange, Protocol};
use crate::ruleset::{Shape, ShapeId};

/// The rules of one prefix around an address, in the previous ruleset and in the new one.
pub(super) struct Level {
    pub(super) previous: Vec<ShapeId>,
    pub(super) new: Vec<ShapeId>,
}

/// A rule that wins: the level of its prefix, counted from the longest, and its shape.
pub(super) type Winner = Option<(usize, ShapeId)>;

/// Packets to one address that get another answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell<K> {
    pub(super) protocol: Protocol,
    pub(super) ports: PortRange,
    pub(super) part: Part<K>,
}

/// The same without protocol and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<K> {
    /// First and last; `None` for every source.
    pub(super) source: Option<(K, K)>,
    pub(super) arrival: Arrival,
    pub(super) marks: Marks,
    pub(super) winners: Winners,
}

/// The winners in both rulesets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Winners {
    pub(super) previous: Winner,
    pub(super) new: Winner,
}

/// The winners for most marks, and those for the other ones: disjoint marks.
pub(super) type ByMark = (Winners, Vec<(Mark, Winners)>);

/// A rule that may win at this address.
struct Candidate<'a> {
    shape: &'a Shape,
    id: (usize, ShapeId),
    ifindex: Option<u32>,
    is_new: bool,
    is_change: bool,
}

impl Candidate<'_> {
    fn is_unconditional(&self) -> bool {
        self.shape.is_unconditional()
    }
}

/// Rules of one protocol from both rulesets, in the order in which they win.
struct Contest<'a, 'r> {
    sides: &'a Sides<'r>,
    candidates: Vec<Candidate<'r>>,
}

/// The packets whose answer differs at an address with these rules around it, the longest prefix first.
pub(super) fn cells<K: Addr>(sides: &Sides<'_>, levels: &[Level]) -> Vec<Cell<K>> {
    let mut cells = Vec::new();
    let mut all = candidates(sides, levels);
    for protocol in Protocol::ALL {
        let candidates = all.extract_if(.., |candidate| candidate.shape.protocol == protocol).collect();
        let contest = Contest { sides, candidates };
        for (first, last, parts) in contest.by_port::<K>() {
            let ports = PortRange::new(first, last).unwrap_or(PortRange::ANY);
            cells.extend(parts.into_iter().map(|part| Cell { protocol, ports, part }));
        }
    }
    cells
}

/// Adds the row of a range. Neighbouring ranges with equal rows become one.
fn append<K: Step, T: PartialEq>(rows: &mut Vec<(K, K, Vec<T>)>, first: K, last: K, row: Vec<T>) {
    match rows.last_mut() {
        Some((_, end, same)) if end.next() == Some(first) && *same == row => *end = last,
        _ => rows.push((first, last, row)),
    }
}

/// The rules of both rulesets in the order in which they win.
fn candidates<'r>(sides: &Sides<'r>, levels: &[Level]) -> Vec<Candidate<'r>> {
    let mut candidates = Vec::new();
    for (number, level) in levels.iter().enumerate() {
        let [previous_changes, new_changes] = sides.changes(&level.previous, &level.new);
        for (side, ids, changes, is_new) in
            [(&sides.previous, &level.previous, previous_changes, false), (&sides.new, &level.new, new_changes, true)]
        {
            for (id, is_change) in ids.iter().zip(changes) {
                let shape = side.shape(*id);
                let ifindex = shape.iface.map(|id| side.ruleset.interface(id).index);
                candidates.push(Candidate { shape, id: (number, *id), ifindex, is_new, is_change });
            }
        }
    }
    // No packet comes in on an interface that does not exist.
    candidates.retain(|candidate| candidate.ifindex != Some(0));
    candidates.sort_by_key(|Candidate { shape, id, .. }| {
        let source = shape.source.map_or(0, |source| source.len());
        let bits = shape.mark.map_or(0, Mark::bits);
        (id.0, shape.ports.width(), Reverse(source), Reverse(shape.iface.is_some()), Reverse(bits))
    });
    candidates
}

impl Contest<'_, '_> {
    fn by_port<K: Addr>(&self) -> Vec<(u16, u16, Vec<Part<K>>)> {
        let mut rows = Vec::new();
        if !self.candidates.iter().any(|candidate| candidate.is_change) {
            return rows;
        }
        let ports = |(number, candidate): (usize, &Candidate<'_>)| {
            (candidate.shape.ports.first(), candidate.shape.ports.last(), number)
        };
        let ranges: Vec<Numbered<u16>> = self.candidates.iter().enumerate().map(ports).collect();
        segments(&ranges, |first, last, open| {
            // Where no rule changed, the same rule wins in both.
            if open.iter().any(|number| self.candidates[*number].is_change) {
                append(&mut rows, first, last, self.by_source(open));
            }
        });
        rows
    }

    fn by_source<K: Addr>(&self, open: &[usize]) -> Vec<Part<K>> {
        let rivals = self.rivals(open);
        if rivals.iter().all(|number| self.candidates[*number].is_unconditional()) {
            let winners = self.winners(&rivals, None).0;
            let part = Part { source: None, arrival: Arrival::Any, marks: Marks::Any, winners };
            return if self.moves(winners) { vec![part] } else { Vec::new() };
        }
        let whole = |number: usize| (K::WHOLE.0, K::WHOLE.1, number);
        let sources = |number: usize| match self.candidates[number].shape.source {
            Some(source) => (K::bounds(source).0, K::bounds(source).1, number),
            None => whole(number),
        };
        let ranges: Vec<Numbered<K>> = rivals.iter().map(|number| sources(*number)).collect();
        let mut rows = Vec::new();
        segments(&ranges, |first, last, open| append(&mut rows, first, last, self.by_arrival(open)));
        let part = |source: Option<(K, K)>, (arrival, marks, winners): (Arrival, Marks, Winners)| Part {
            source,
            arrival,
            marks,
            winners,
        };
        let parts = |(first, last, row): (K, K, Vec<_>)| {
            let source = ((first, last) != K::WHOLE).then_some((first, last));
            row.into_iter().map(move |it| part(source, it))
        };
        rows.into_iter().flat_map(parts).collect()
    }

    /// The rules of each ruleset that can win: none after the first one without conditions.
    fn rivals(&self, open: &[usize]) -> Vec<usize> {
        let mut decided = [false; 2];
        let mut rivals = Vec::new();
        for number in open {
            let candidate = &self.candidates[*number];
            let decided = &mut decided[usize::from(candidate.is_new)];
            if !*decided {
                rivals.push(*number);
                *decided = candidate.is_unconditional();
            }
        }
        rivals
    }

    fn by_arrival(&self, open: &[usize]) -> Vec<(Arrival, Marks, Winners)> {
        let indexes: BTreeSet<u32> = open.iter().filter_map(|number| self.candidates[*number].ifindex).collect();
        let elsewhere = self.winners(open, None);
        let mut by_index: Vec<(u32, ByMark)> =
            indexes.into_iter().map(|at| (at, self.winners(open, Some(at)))).collect();
        by_index.retain(|(_, winners)| *winners != elsewhere);
        let rest = match by_index.is_empty() {
            true => Arrival::Any,
            false => Arrival::NotOn(by_index.iter().map(|(index, _)| *index).collect()),
        };
        let all = by_index.into_iter().map(|(index, winners)| (Arrival::On(index), winners)).chain([(rest, elsewhere)]);
        all.flat_map(|(arrival, winners)| self.by_mark(&arrival, winners)).collect()
    }

    /// The winners of each set of marks, where the answer differs.
    fn by_mark(&self, arrival: &Arrival, (usual, special): ByMark) -> Vec<(Arrival, Marks, Winners)> {
        let rest = match special.is_empty() {
            true => Marks::Any,
            false => Marks::NotOf(special.iter().map(|(mark, _)| *mark).collect()),
        };
        let all = special.into_iter().map(|(mark, winners)| (Marks::Of(mark), winners)).chain([(rest, usual)]);
        all.filter(|(_, winners)| self.moves(*winners)).map(|(marks, it)| (arrival.clone(), marks, it)).collect()
    }

    /// The winners among these rules for packets of one interface, or of one that no rule names: those of most marks,
    /// and the marks that have others.
    fn winners(&self, open: &[usize], ifindex: Option<u32>) -> ByMark {
        let here = |number: &&usize| {
            let own = self.candidates[**number].ifindex;
            own.is_none() || own == ifindex
        };
        let of_side = |is_new: bool| -> Vec<(Option<Mark>, (usize, ShapeId))> {
            let rules = open.iter().filter(here).map(|number| &self.candidates[*number]);
            rules.filter(|it| it.is_new == is_new).map(|it| (it.shape.mark, it.id)).collect()
        };
        by_mark(&of_side(false), &of_side(true))
    }

    fn moves(&self, winners: Winners) -> bool {
        let previous = winners.previous.map(|(_, id)| self.sides.previous.shape(id).verdict);
        let new = winners.new.map(|(_, id)| self.sides.new.shape(id).verdict);
        !self.sides.same_answer(previous, new)
    }
}
