//! Searches: intervals packed into blocks, and the indexes that lead to the right block.

use super::key::Key;
use super::layout::{HEADER_WORDS, split};

/// An interval starts at `key` and ends before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Interval<K> {
    pub(super) key: K,
    pub(super) value: [u32; 2],
}

/// What leads on in a search: 2 bits of kind, 30 bits of place.
/// Kinds 0 to 2: a run that starts at this block and goes on for as many blocks more. Kind 3: a node, by its place in
/// words from the start of the index area.
pub(super) struct Entry;

impl Entry {
    pub(super) const NODE: u32 = 3;
    pub(super) const PLACE: u32 = (1 << 30) - 1;
    /// The most blocks that a run goes on for.
    const LONGEST: usize = 2;

    fn run(block: usize, more: usize) -> u32 {
        (more as u32) << 30 | block as u32
    }

    fn node(place: usize) -> u32 {
        Self::NODE << 30 | place as u32
    }
}

/// The words before the entries of a node. Words 0 and 1: for an index, how many entries, and its shift with
/// [`LOW_HALF`]; for a bisection, how many blocks, and [`BISECT`]. Then, each in two words, the window's lowest value (for
/// a bisection the first block) and the high half.
pub(super) const NODE_WORDS: usize = 6;
/// In word 1 of a node: the window lies in the low half of the key.
pub(super) const LOW_HALF: u32 = 1 << 8;
/// In word 1 of a node: bisect the blocks.
pub(super) const BISECT: u32 = 1 << 9;
/// How many levels of index nodes there are at most below a root; what is still crowded then is bisected.
const MAX_LEVELS: u32 = 6;
/// How many intervals the entry of an index has on average, at least.
const DENSITY: usize = 3;

/// How many words a block has.
pub(super) const BLOCK_WORDS: usize = 32;

/// The index area and the two areas of blocks, growing.
#[derive(Debug, Default)]
pub(super) struct Searches {
    pub(super) index: Vec<u32>,
    pub(super) blocks32: Vec<u32>,
    pub(super) blocks128: Vec<u32>,
    /// Whether a node is to be bisected.
    pub(super) bisect: bool,
}

/// A search that was added: the entry that leads into it, and the levels of nodes below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added {
    pub(super) entry: u32,
    pub(super) levels: u32,
}

/// The bits of the key by which an index tells intervals apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) first: u64,
    pub(super) shift: u32,
    /// `Some` when the window lies in the low half: the high half that all indexed keys have.
    pub(super) high: Option<u64>,
    pub(super) entries: usize,
}

impl Window {
    /// The window for intervals from `low` to `high`, both included, with at most `wanted` entries.
    fn over<K: Key>(low: K, high: K, wanted: usize) -> Self {
        let ((low_high, low_low), (high_high, high_low)) = (low.halves(), high.halves());
        let (first, last, high) = match low_high == high_high && K::WORDS > 1 {
            true => (low_low, high_low, Some(low_high)),
            false => (low_high, high_high, None),
        };
        let span = last - first;
        let shift = (0..64).find(|shift| span >> shift < wanted.max(1) as u64).unwrap_or(63);
        Self { first, shift, high, entries: (span >> shift) as usize + 1 }
    }

    /// Which entry is for the key. Keys outside the window go to the first or the last one.
    pub(super) fn at<K: Key>(&self, key: K) -> usize {
        let (key_high, key_low) = key.halves();
        let value = match self.high {
            None => key_high,
            Some(high) if key_high == high => key_low,
            Some(high) => {
                if key_high < high {
                    0
                } else {
                    u64::MAX
                }
            }
        };
        let at = value.saturating_sub(self.first) >> self.shift;
        at.min(self.entries as u64 - 1) as usize
    }
}

impl Searches {
    /// Adds a search over intervals that start at [`Key::MIN`], ascend and differ.
    pub(super) fn add<K: Key>(&mut self, intervals: &[Interval<K>]) -> Added {
        let first = append(K::blocks(self), intervals);
        self.lead(intervals, first)
    }

    fn lead<K: Key>(&mut self, intervals: &[Interval<K>], first_block: usize) -> Added {
        assert_eq!(intervals[0].key, K::MIN, "the first interval starts at the lowest key");
        let mut index = Index { searches: self, intervals, first_block, deepest: 0 };
        let entry = index.entry(1, intervals.len(), 0);
        Added { entry, levels: index.deepest }
    }
}

/// Packs intervals into whole new blocks and gives the number of the first. The last block is filled up with its last
/// interval, so that a search never finds anything else there.
fn append<K: Key>(blocks: &mut Vec<u32>, intervals: &[Interval<K>]) -> usize {
    let first = blocks.len() / BLOCK_WORDS;
    let words = intervals.len().div_ceil(K::PER_BLOCK) * BLOCK_WORDS;
    blocks.resize(blocks.len() + words, 0);
    let values = K::PER_BLOCK * K::WORDS;
    for (block, chunk) in
        blocks[first * BLOCK_WORDS..].chunks_exact_mut(BLOCK_WORDS).zip(intervals.chunks(K::PER_BLOCK))
    {
        let last = chunk[chunk.len() - 1];
        for slot in 0..K::PER_BLOCK {
            let interval = chunk.get(slot).unwrap_or(&last);
            interval.key.write(&mut block[slot * K::WORDS..]);
            block[values + slot * 2..values + slot * 2 + 2].copy_from_slice(&interval.value);
        }
    }
    first
}

/// The making of the indexes of one search.
struct Index<'a, K> {
    searches: &'a mut Searches,
    intervals: &'a [Interval<K>],
    first_block: usize,
    deepest: u32,
}

impl<K: Key> Index<'_, K> {
    /// What leads to the intervals `from..to` and to the one before them, in which the keys below theirs are.
    fn entry(&mut self, from: usize, to: usize, level: u32) -> u32 {
        let (first, last) = ((from - 1) / K::PER_BLOCK, (to - 1) / K::PER_BLOCK);
        if last - first <= Entry::LONGEST {
            return Entry::run(self.first_block + first, last - first);
        }
        self.deepest = self.deepest.max(level + 1);
        match level < MAX_LEVELS {
            true => self.index(from, to, level),
            false => self.bisection(first, last),
        }
    }

    fn index(&mut self, from: usize, to: usize, level: u32) -> u32 {
        let window = Window::over(self.intervals[from].key, self.intervals[to - 1].key, (to - from) / DENSITY);
        let place = self.node(&window);
        let mut start = from;
        for entry in 0..window.entries {
            let within = |interval: &&Interval<K>| window.at(interval.key) <= entry;
            let end = start + self.intervals[start..to].iter().take_while(within).count();
            let leads = self.entry(start, end, level + 1);
            self.searches.index[place + NODE_WORDS + entry] = leads;
            start = end;
        }
        Entry::node(place)
    }

    /// Room for a node with its header written.
    fn node(&mut self, window: &Window) -> usize {
        let index = &mut self.searches.index;
        // The 64-bit values of the header lie at even places of the image.
        let place = (HEADER_WORDS + index.len()).next_multiple_of(2) - HEADER_WORDS;
        index.resize(place + NODE_WORDS + window.entries, 0);
        let half = if window.high.is_some() { LOW_HALF } else { 0 };
        index[place] = window.entries as u32;
        index[place + 1] = window.shift | half;
        index[place + 2..place + 4].copy_from_slice(&split(window.first));
        index[place + 4..place + 6].copy_from_slice(&split(window.high.unwrap_or(0)));
        place
    }

    fn bisection(&mut self, first: usize, last: usize) -> u32 {
        self.searches.bisect = true;
        let block = (self.first_block + first) as u64;
        let place = self.node(&Window { first: block, shift: 0, high: None, entries: 0 });
        self.searches.index[place] = (last - first + 1) as u32;
        self.searches.index[place + 1] = BISECT;
        Entry::node(place)
    }
}
