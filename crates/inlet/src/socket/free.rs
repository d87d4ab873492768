//! Which slots of the map of sockets belong to no lane.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of slots that nobody owns.
#[derive(Clone, Debug)]
pub(crate) struct Free {
    /// From the first slot of each to the one after its last. No two of them touch.
    ranges: BTreeMap<u32, u32>,
}

impl Free {
    /// What is left of so many slots when these ranges are taken, which do not overlap.
    pub(crate) fn of(slots: u32, taken: impl IntoIterator<Item = Range<u32>>) -> Self {
        let mut taken: Vec<Range<u32>> = taken.into_iter().collect();
        taken.sort_by_key(|range| range.start);
        let (mut ranges, mut next) = (BTreeMap::new(), 0);
        for range in taken {
            if range.start > next {
                ranges.insert(next, range.start);
            }
            next = next.max(range.end);
        }
        if next < slots {
            ranges.insert(next, slots);
        }
        Self { ranges }
    }

    /// How many slots that are.
    pub(crate) fn count(&self) -> u32 {
        self.ranges.iter().map(|(first, end)| end - first).sum()
    }

    /// Takes `most` slots in a row, or as many of them as the longest range has, if that are at least `least`.
    pub(crate) fn take(&mut self, least: u32, most: u32) -> Option<Range<u32>> {
        let fits = self.ranges.iter().find(|(first, end)| *end - *first >= most);
        let (first, end) = fits.or_else(|| self.ranges.iter().max_by_key(|(first, end)| *end - *first))?;
        let (first, end) = (*first, *end);
        let taken = first..end.min(first + most);
        if taken.is_empty() || taken.end - taken.start < least {
            return None;
        }
        self.ranges.remove(&first);
        if taken.end < end {
            self.ranges.insert(taken.end, end);
        }
        Some(taken)
    }

    /// Takes the slots behind a range, so that it ends at `end` at most and at `least` at least. Gives its new end.
    pub(crate) fn extend(&mut self, range: &Range<u32>, least: u32, end: u32) -> Option<u32> {
        let behind = *self.ranges.get(&range.end)?;
        let new = end.min(behind);
        if new < least {
            return None;
        }
        self.ranges.remove(&range.end);
        if new < behind {
            self.ranges.insert(new, behind);
        }
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_extended_and_run_out() {
        let mut free = Free::of(100, [10..20, 0..5, 50..60]);
        assert_eq!(free.count(), 75);
        assert_eq!(free.take(1, 5), Some(5..10), "the first that fits");
        assert_eq!(free.take(1, 32), Some(60..92));
        assert_eq!(free.extend(&(10..20), 25, 40), Some(40));
        assert_eq!(free.extend(&(10..40), 55, 60), None, "the next lane is there");
        assert_eq!(free.take(1, 64), Some(40..50), "the longest when none fits");
        assert_eq!(free.take(9, 64), None);
        assert_eq!(free.take(1, 64), Some(92..100));
        assert_eq!((free.count(), free.take(1, 1)), (0, None));
    }
}
