//! Turns nested prefixes into disjoint intervals.

use super::search::Interval;
use crate::image::format::Key;

/// A prefix that the sweep is inside of.
struct Open<K> {
    last: K,
    value: [u32; 2],
}

/// The intervals of a set of prefixes, collected in one sweep over them in address order (a prefix before those inside
/// it). Each interval has the value of the longest prefix that covers it.
pub(super) struct Sweep<K> {
    intervals: Vec<Interval<K>>,
    open: Vec<Open<K>>,
    background: [u32; 2],
    /// The most prefixes that were open at once.
    pub(super) deepest: usize,
}

impl<K: Key> Sweep<K> {
    /// A sweep in which addresses outside of all prefixes have the value `background`.
    pub(super) fn new(background: [u32; 2], capacity: usize) -> Self {
        let mut intervals = Vec::with_capacity(capacity);
        intervals.push(Interval { key: K::MIN, value: background });
        Self { intervals, open: Vec::new(), background, deepest: 0 }
    }

    /// Leaves the prefixes that end before `key`. Gives the value of the innermost prefix that is left, and how many
    /// are.
    pub(super) fn advance(&mut self, key: K) -> ([u32; 2], usize) {
        while let Some(innermost) = self.open.last().filter(|open| open.last < key) {
            let after = innermost.last.next();
            self.open.pop();
            if let Some(after) = after {
                self.emit(after, self.value());
            }
        }
        (self.value(), self.open.len())
    }

    /// Enters the prefix from `first` to `last`, after [`Sweep::advance`] to `first`.
    pub(super) fn enter(&mut self, first: K, last: K, value: [u32; 2]) {
        self.open.push(Open { last, value });
        self.deepest = self.deepest.max(self.open.len());
        self.emit(first, value);
    }

    /// All intervals in order. Neighbours differ in value.
    pub(super) fn finish(mut self) -> Vec<Interval<K>> {
        while let Some(innermost) = self.open.pop() {
            if let Some(after) = innermost.last.next() {
                self.emit(after, self.value());
            }
        }
        self.intervals
    }

    fn value(&self) -> [u32; 2] {
        self.open.last().map_or(self.background, |open| open.value)
    }

    fn emit(&mut self, key: K, value: [u32; 2]) {
        self.intervals.pop_if(|last| last.key == key);
        if self.intervals.last().is_none_or(|last| last.value != value) {
            self.intervals.push(Interval { key, value });
        }
    }
}
