//! Finds rules of one prefix that tie on a packet.

use std::fmt;

use super::{Entry, Ruleset, Shape, ShapeId};
use crate::rule::{Mark, Rule};
use crate::threads::{MANY, join};

/// Two rules that match a packet with equal rank, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// One of the rules.
    pub first: String,
    /// The other rule.
    pub second: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.second {
            true => write!(f, "`{}` is there twice", self.first),
            false => write!(f, "`{}` and `{}` overlap and neither is more specific", self.first, self.second),
        }
    }
}

/// Every pair of neighbouring rules that tie. The ruleset is already sorted.
pub(crate) fn conflicts(ruleset: &Ruleset) -> Vec<Conflict> {
    let many = ruleset.v4.len().min(ruleset.v6.len()) >= MANY;
    let (mut found, v6) = join(many, || in_family(ruleset, &ruleset.v4), || in_family(ruleset, &ruleset.v6));
    found.extend(v6);
    found
}

fn in_family<E: Entry>(ruleset: &Ruleset, entries: &[E]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for group in entries.chunk_by(|a, b| a.same_local(*b)).filter(|group| group.len() > 1) {
        for (a, b) in ties(ruleset, group) {
            let text = |rule: Rule| ruleset.named(&rule).to_string();
            let rule = |id: ShapeId| ruleset.shapes[id as usize].rule(group[0].local());
            found.push(Conflict { first: text(rule(a)), second: text(rule(b)) });
        }
    }
    found
}

/// The pairs that tie among the rules of one prefix. The rules are sorted so that those which can tie are neighbours,
/// with ascending ports. Then, if any two ranges of one width overlap, two neighbours overlap.
fn ties<E: Entry>(ruleset: &Ruleset, group: &[E]) -> Vec<(ShapeId, ShapeId)> {
    let shape = |id: ShapeId| &ruleset.shapes[id as usize];
    let mut ids: Vec<ShapeId> = group.iter().map(|entry| entry.shape()).collect();
    let rank = |shape: &Shape| {
        let bits = shape.mark.map(Mark::bits);
        (shape.protocol, shape.ports.width(), shape.source, shape.iface, bits)
    };
    ids.sort_unstable_by_key(|id| (rank(shape(*id)), shape(*id).mark, shape(*id).ports));
    let neighbours = ids.windows(2).filter(|pair| shape(pair[0]).ties_with(shape(pair[1])));
    let mut found: Vec<(ShapeId, ShapeId)> = neighbours.map(|pair| (pair[0], pair[1])).collect();
    for equal in ids.chunk_by(|a, b| rank(shape(*a)) == rank(shape(*b))) {
        ties_of_masks(ruleset, equal, &mut found);
    }
    found
}

/// The pairs that tie among rules that differ in ports and mark only, where different bits of the mark count. One pair
/// for each rule will do.
fn ties_of_masks(ruleset: &Ruleset, equal: &[ShapeId], found: &mut Vec<(ShapeId, ShapeId)>) {
    let shape = |id: &ShapeId| &ruleset.shapes[*id as usize];
    let mask = |id: &ShapeId| shape(id).mark.map(Mark::mask);
    if equal.first().map(mask) == equal.last().map(mask) {
        return;
    }
    let mut by_port = equal.to_vec();
    by_port.sort_unstable_by_key(|id| shape(id).ports);
    for id in equal {
        // All ranges have one width, so those that overlap this one begin less than a width before it, or at it.
        let ports = shape(id).ports;
        let low = ports.first().saturating_sub(ports.width() - 1);
        let from = by_port.partition_point(|other| shape(other).ports.first() < low);
        let to = by_port.partition_point(|other| shape(other).ports.first() <= ports.first());
        let tied = by_port[from..to].iter().find(|other| mask(other) != mask(id) && shape(other).ties_with(shape(id)));
        found.extend(tied.map(|other| (*other, *id)));
    }
}
