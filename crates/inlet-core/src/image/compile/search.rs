//! Searches: intervals in blocks, and the indexes that lead to the right block.

use crate::image::format::{
    BLOCK_WORDS, ENTRY_NODE, ENTRY_SHIFT, HEADER_WORDS, Key, LOW_HALF, MAX_LEVELS, NODE_BISECT, NODE_WORDS, Span,
    to_words,
};

/// An interval starts at `key` and ends before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Interval<K> {
    pub(super) key: K,
    pub(super) value: [u32; 2],
}

/// The most blocks that a run has after its first.
const LONGEST: usize = 2;

/// An entry that leads to a run: a block, and so many more blocks.
fn run(block: usize, more: usize) -> u32 {
    (more as u32) << ENTRY_SHIFT | block as u32
}

/// An entry that leads to a node, by its offset in the index area.
fn node(offset: usize) -> u32 {
    ENTRY_NODE << ENTRY_SHIFT | offset as u32
}

/// The fewest intervals for each entry of an index, on average.
const DENSITY: usize = 3;

/// The index area and the two areas of blocks, under construction.
#[derive(Debug, Default)]
pub(super) struct Searches {
    pub(super) index: Vec<u32>,
    pub(super) blocks32: Vec<u32>,
    pub(super) blocks128: Vec<u32>,
    /// Whether some node is to be bisected.
    pub(super) bisect: bool,
}

/// A search that was added: the entry that leads to it, and its levels of nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added {
    pub(super) entry: u32,
    pub(super) levels: u32,
}

impl Searches {
    /// Adds a search over intervals that start at [`Key::MIN`], ascend and differ.
    pub(super) fn add<K: Key>(&mut self, intervals: &[Interval<K>]) -> Added {
        let first = append(self.blocks::<K>(), intervals);
        self.lead(intervals, first)
    }

    /// The blocks of keys of this kind.
    fn blocks<K: Key>(&mut self) -> &mut Vec<u32> {
        if K::BITS == 32 { &mut self.blocks32 } else { &mut self.blocks128 }
    }

    fn lead<K: Key>(&mut self, intervals: &[Interval<K>], first_block: usize) -> Added {
        assert_eq!(intervals[0].key, K::MIN, "the first interval starts at the lowest key");
        let mut index = Index { searches: self, intervals, first_block, deepest: 0 };
        let entry = index.entry(1, intervals.len(), 0);
        Added { entry, levels: index.deepest }
    }
}

/// Packs intervals into new blocks and gives the number of the first block. The last interval is repeated to fill the
/// last block, so that a search finds nothing else there.
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

/// The indexes of one search, under construction.
struct Index<'a, K> {
    searches: &'a mut Searches,
    intervals: &'a [Interval<K>],
    first_block: usize,
    deepest: u32,
}

impl<K: Key> Index<'_, K> {
    /// The entry that leads to the intervals `from..to` and to the one before them, which holds the keys below theirs.
    fn entry(&mut self, from: usize, to: usize, level: u32) -> u32 {
        let (first, last) = ((from - 1) / K::PER_BLOCK, (to - 1) / K::PER_BLOCK);
        if last - first <= LONGEST {
            return run(self.first_block + first, last - first);
        }
        self.deepest = self.deepest.max(level + 1);
        match level < MAX_LEVELS - 1 {
            true => self.index(from, to, level),
            false => self.bisection(first, last),
        }
    }

    fn index(&mut self, from: usize, to: usize, level: u32) -> u32 {
        let span = Span::from_first(self.intervals[from].key, self.intervals[to - 1].key, (to - from) / DENSITY);
        let offset = self.node(&span);
        let mut start = from;
        for entry in 0..span.pieces as usize {
            let within = |interval: &&Interval<K>| span.nearest(interval.key) <= entry;
            let end = start + self.intervals[start..to].iter().take_while(within).count();
            let leads = self.entry(start, end, level + 1);
            self.searches.index[offset + NODE_WORDS + entry] = leads;
            start = end;
        }
        node(offset)
    }

    /// Makes room for a node and writes its header.
    fn node(&mut self, span: &Span) -> usize {
        let index = &mut self.searches.index;
        // The 64-bit values of the header lie at even offsets of the image.
        let offset = (HEADER_WORDS + index.len()).next_multiple_of(2) - HEADER_WORDS;
        index.resize(offset + NODE_WORDS + span.pieces as usize, 0);
        let half = if span.high.is_some() { LOW_HALF } else { 0 };
        index[offset] = span.pieces;
        index[offset + 1] = span.shift | half;
        index[offset + 2..offset + 4].copy_from_slice(&to_words(span.first));
        index[offset + 4..offset + 6].copy_from_slice(&to_words(span.high.unwrap_or(0)));
        offset
    }

    fn bisection(&mut self, first: usize, last: usize) -> u32 {
        self.searches.bisect = true;
        let block = (self.first_block + first) as u64;
        let offset = self.node(&Span { first: block, shift: 0, high: None, pieces: 0 });
        self.searches.index[offset] = (last - first + 1) as u32;
        self.searches.index[offset + 1] = NODE_BISECT;
        node(offset)
    }
}
