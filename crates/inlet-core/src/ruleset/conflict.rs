//! Finds rules of one prefix that tie on a packet.

use std::fmt;

use super::{Entry, Ruleset, ShapeId};
use crate::rule::Rule;
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
    ids.sort_unstable_by_key(|id| {
        let shape = shape(*id);
        (shape.protocol, shape.ports.width(), shape.source, shape.iface, shape.ports)
    });
    ids.windows(2).filter(|pair| shape(pair[0]).ties_with(shape(pair[1]))).map(|pair| (pair[0], pair[1])).collect()
}
