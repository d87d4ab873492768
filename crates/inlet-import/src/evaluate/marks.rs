//! The marks that a ruleset may ask for: those that tests of the firewall ask for, as far as rules can tell them apart.

use inlet_core::Mark;

use super::state;
use crate::firewall::{Firewall, Step, Test};

/// So many marks are told apart.
const MOST: usize = 16;

/// Marks, those of few bits first, with all that two of them share. Number 0 stands for a packet that has none of them,
/// the others for one that has this mark and none of more bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// The marks of the tests of a firewall; none when rules could not tell them apart.
    pub(super) fn of(firewall: &Firewall) -> Self {
        let mut found: Vec<Mark> = Vec::new();
        let tests = firewall.rules.iter().flat_map(|rule| &rule.steps).filter_map(|step| match step {
            Step::Match { test, .. } => Some(&firewall.tests[*test]),
            Step::Do(_) => None,
        });
        for test in tests {
            let Test::Mark { conn: false, mask, values } = test else { continue };
            let exact = values.iter().filter(|(first, last)| first == last && *first != 0);
            found.extend(exact.filter_map(|(value, _)| Mark::new(*value, *mask).ok()));
        }
        found.sort_unstable();
        found.dedup();
        let mut number = 0;
        while number < found.len() && found.len() <= MOST {
            let shared = found[..number].iter().filter_map(|other| other.intersection(found[number]));
            let new: Vec<Mark> = shared.filter(|mark| !found.contains(mark)).collect();
            found.extend(new);
            number += 1;
        }
        let tie =
            |one: &Mark, other: &Mark| one != other && one.bits() == other.bits() && one.intersection(*other).is_some();
        let ties = found.iter().any(|one| found.iter().any(|other| tie(one, other)));
        if ties || found.len() > MOST {
            return Self::default();
        }
        found.sort_by_key(|mark| mark.bits());
        Self(found)
    }

    /// How many kinds of packets they make.
    pub(crate) fn count(&self) -> usize {
        self.0.len() + 1
    }

    /// The mark of this number, which is not 0.
    pub(crate) fn get(&self, number: usize) -> Option<Mark> {
        number.checked_sub(1).and_then(|number| self.0.get(number).copied())
    }

    /// For each number those of the marks that hold its mark too, the one of most bits first.
    pub(super) fn around(&self) -> Vec<Vec<usize>> {
        let around = |number: usize| -> Vec<usize> {
            let Some(own) = self.get(number) else { return Vec::new() };
            (1..number).rev().filter(|other| self.get(*other).is_some_and(|mark| mark.covers(own))).collect()
        };
        (0..self.count()).map(around).collect()
    }

    /// The bits that a packet of this number has where nobody sets them.
    pub(super) fn bits(&self, number: usize) -> u32 {
        self.get(number).map_or(0, Mark::value)
    }

    /// Whether a packet of this number can have this mark in the end.
    pub(super) fn allow(&self, number: usize, last: state::Mark) -> bool {
        let bits = last.bits | self.bits(number) & last.fresh;
        let best = self.0.iter().filter(|mark| mark.matches(bits)).max_by_key(|mark| mark.bits());
        best.copied() == self.get(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_most_bits_is_meant() {
        let mark = |text: &str| text.parse::<Mark>().unwrap();
        let marks = Marks(vec![mark("0x1/0x1"), mark("0x3/0x3")]);
        let known = |bits| state::Mark { fresh: 0, bits };
        assert!(marks.allow(0, known(2)) && marks.allow(1, known(1)) && marks.allow(2, known(3)));
        assert!(!marks.allow(1, known(3)) && !marks.allow(0, known(1)) && !marks.allow(2, known(1)));
        assert!((0..3).all(|number| marks.allow(number, state::Mark::FRESH)));
    }
}
