//! Prefixes for ranges: as few as can be, the longest prefix around a number gives its label.
//!
//! Each range has labels of which any will do. From the hosts up every prefix gets the labels that cost least when it
//! has one
//! of its own; from the top down a prefix gets a label only where the one around it will not do, and where it serves
//! both of
//! its halves (Draves, King, Venkatachary, Zill: Constructing Optimal IP Routing Tables, 1999).

use std::collections::HashMap;

/// No label: what lies around the whole tree decides.
pub(super) const NONE: u32 = u32::MAX;

/// The labels that a range may have, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Labels {
    /// It does not matter.
    Any,
    Of(Vec<u32>),
}

/// A prefix with its label, and the label around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    pub(super) first: u128,
    pub(super) len: u8,
    pub(super) label: u32,
    pub(super) around: u32,
}

/// The prefixes for ranges that follow each other from 0 on, each given by its first number.
pub(super) fn aggregate(ranges: &[(u128, Labels)], bits: u8) -> Vec<Labelled> {
    aggregate_by(ranges, bits, &mut |_, _| 1)
}

/// The same, where labels cost more or less: `cost` of a label inside another one.
pub(super) fn aggregate_by(
    ranges: &[(u128, Labels)],
    bits: u8,
    cost: &mut dyn FnMut(u32, u32) -> usize,
) -> Vec<Labelled> {
    let mut tree = Tree { bits, ..Tree::default() };
    let root = tree.build(ranges, 0, 0);
    let mut found = Vec::new();
    tree.assign(root, (0, 0), NONE, cost, &mut found);
    found
}

#[derive(Default)]
struct Tree {
    bits: u8,
    nodes: Vec<Node>,
    sets: Vec<Labels>,
    numbers: HashMap<Labels, u32>,
    /// What became of pairs of sets: the set, and whether it is what they share.
    joins: HashMap<(u32, u32), (u32, bool)>,
}

#[derive(Clone, Copy)]
struct Node {
    set: u32,
    /// Whether one label serves all of it best.
    whole: bool,
    halves: Option<(u32, u32)>,
}

impl Tree {
    fn set(&mut self, labels: Labels) -> u32 {
        if let Some(number) = self.numbers.get(&labels) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(labels.clone());
        self.numbers.insert(labels, number);
        number
    }

    fn node(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// `ranges` are those that reach into the prefix; the first may begin before it.
    fn build(&mut self, ranges: &[(u128, Labels)], first: u128, len: u8) -> u32 {
        if let [(_, labels)] = ranges {
            let set = self.set(labels.clone());
            return self.node(Node { set, whole: true, halves: None });
        }
        let middle = first | 1 << (self.bits - len - 1);
        let at = ranges.partition_point(|(start, _)| *start < middle);
        let begins_there = ranges.get(at).is_some_and(|(start, _)| *start == middle);
        let left = self.build(&ranges[..at], first, len + 1);
        let right = self.build(&ranges[if begins_there { at } else { at - 1 }..], middle, len + 1);
        let (set, whole) = self.join(self.nodes[left as usize].set, self.nodes[right as usize].set);
        self.node(Node { set, whole, halves: Some((left, right)) })
    }

    fn join(&mut self, a: u32, b: u32) -> (u32, bool) {
        let key = (a.min(b), a.max(b));
        if let Some(known) = self.joins.get(&key) {
            return *known;
        }
        let (labels, whole) = match (&self.sets[a as usize], &self.sets[b as usize]) {
            (Labels::Any, other) | (other, Labels::Any) => (other.clone(), true),
            (Labels::Of(a), Labels::Of(b)) => {
                let shared: Vec<u32> = a.iter().filter(|label| b.binary_search(label).is_ok()).copied().collect();
                if shared.is_empty() {
                    let mut all = [a.as_slice(), b].concat();
                    all.sort_unstable();
                    (Labels::Of(all), false)
                } else {
                    (Labels::Of(shared), true)
                }
            }
        };
        let joined = (self.set(labels), whole);
        self.joins.insert(key, joined);
        joined
    }

    fn assign(
        &self,
        node: u32,
        (first, len): (u128, u8),
        around: u32,
        cost: &mut dyn FnMut(u32, u32) -> usize,
        found: &mut Vec<Labelled>,
    ) {
        let Node { set, whole, halves } = self.nodes[node as usize];
        let mut label = around;
        if !self.has(set, around) {
            let own = match (whole, &self.sets[set as usize], halves) {
                // None cannot be given where something is around it; the halves see to it.
                (true, Labels::Of(labels), _) => labels.iter().copied().find(|label| *label != NONE),
                (false, _, Some((left, right))) => self.for_both(left, right, around, cost),
                _ => None,
            };
            if let Some(own) = own {
                label = own;
                found.push(Labelled { first, len, label, around });
            }
        }
        if let Some((left, right)) = halves {
            self.assign(left, (first, len + 1), label, cost, found);
            self.assign(right, (first | 1 << (self.bits - len - 1), len + 1), label, cost, found);
        }
    }

    fn has(&self, set: u32, label: u32) -> bool {
        match &self.sets[set as usize] {
            Labels::Any => true,
            Labels::Of(labels) => labels.binary_search(&label).is_ok(),
        }
    }

    /// The label of one half, when it makes that of the other one cheaper.
    fn for_both(&self, left: u32, right: u32, around: u32, cost: &mut dyn FnMut(u32, u32) -> usize) -> Option<u32> {
        let one = |node: u32| match &self.sets[self.nodes[node as usize].set as usize] {
            Labels::Of(labels) => labels.as_slice().first().copied().filter(|_| labels.len() == 1),
            Labels::Any => None,
        };
        let (left, right) = (one(left)?, one(right)?);
        let apart = cost(left, around) + cost(right, around);
        let (outer_left, outer_right) =
            (cost(left, around) + cost(right, left), cost(right, around) + cost(left, right));
        match outer_left.min(outer_right) < apart {
            true => Some(if outer_left <= outer_right { left } else { right }),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ranges: &[(u128, &[u32])]) -> Vec<(u128, u8, u32, u32)> {
        let labels = |labels: &[u32]| if labels.is_empty() { Labels::Any } else { Labels::Of(labels.to_vec()) };
        let ranges: Vec<_> = ranges.iter().map(|(first, of)| (*first, labels(of))).collect();
        aggregate(&ranges, 4).iter().map(|it| (it.first, it.len, it.label, it.around)).collect()
    }

    #[test]
    fn prefixes_are_few() {
        assert_eq!(found(&[(0, &[NONE])]), []);
        assert_eq!(found(&[(0, &[1])]), [(0, 0, 1, NONE)]);
        // A host inside of another label needs one prefix more.
        assert_eq!(found(&[(0, &[1]), (5, &[2]), (6, &[1])]), [(0, 0, 1, NONE), (5, 4, 2, 1)]);
        // Two halves with labels of their own stay apart.
        assert_eq!(found(&[(0, &[1]), (4, &[2]), (8, &[NONE])]), [(0, 2, 1, NONE), (4, 2, 2, NONE)]);
        assert_eq!(found(&[(0, &[1]), (14, &[]), (15, &[])]), [(0, 0, 1, NONE)]);
    }

    #[test]
    fn a_range_that_needs_nothing_may_have_what_is_around_it() {
        assert_eq!(found(&[(0, &[1]), (5, &[1, NONE]), (6, &[1])]), [(0, 0, 1, NONE)]);
        assert_eq!(found(&[(0, &[1]), (5, &[2, NONE]), (6, &[1])]), [(0, 0, 1, NONE), (5, 4, 2, 1)]);
        assert_eq!(found(&[(0, &[2, NONE]), (5, &[1]), (6, &[2, NONE])]), [(5, 4, 1, NONE)]);
    }
}
