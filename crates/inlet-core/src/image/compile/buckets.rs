//! Local addresses: buckets of prefixes, and the windows that lead to the right bucket.
//!
//! A bucket is for a range of addresses and takes one cache line (IPv4) or two (IPv6). It has the four longest prefixes
//! inside the range, the longest first, and the value of the longest prefix that covers the range. Where there are more
//! prefixes, `more` leads on to a second bucket or to a search over intervals.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::search::{Interval, Searches};
use super::sweep::Sweep;
use crate::image::format::{Address, BUCKET_MORE, Local, MORE_SEARCH, PREFIXES, Root, Span, VALUE_WORDS};

/// The fewest prefixes for each window, on average.
const ROOT_DENSITY: usize = 24;

/// The windows and buckets of a family, under construction.
pub(super) struct Buckets<'a, K> {
    windows: Vec<u32>,
    /// Buckets of the previous image, which stay. The new ones follow.
    kept: &'a [u32],
    buckets: Vec<u32>,
    /// Buckets without prefixes, by their only value.
    empty: FxHashMap<[u32; 2], u32>,
    more: bool,
    crowded: Vec<Crowded<K>>,
    span: Span,
    used: bool,
}

/// A bucket that leads on to a search.
struct Crowded<K> {
    bucket: u32,
    intervals: Vec<Interval<K>>,
}

/// The finished windows and buckets.
#[derive(Debug, Default)]
pub(super) struct Made<'a> {
    /// The offsets of windows and buckets are not set yet.
    pub(super) root: Root,
    pub(super) windows: Vec<u32>,
    /// Buckets of the previous image. `buckets` follows them.
    pub(super) kept: &'a [u32],
    pub(super) buckets: Vec<u32>,
    /// The most levels of nodes in a search that a bucket leads on to.
    pub(super) levels: u32,
}

impl Made<'_> {
    /// How many words all buckets take.
    pub(super) fn bucket_words(&self) -> usize {
        self.kept.len() + self.buckets.len()
    }
}

impl<'a, K: Address> Buckets<'a, K> {
    /// Makes windows and buckets for the prefixes of a family, which are in address order, a prefix before those inside
    /// it.
    pub(super) fn make(locals: &[Local<K>]) -> Self {
        let mut buckets = Self::kept(&Root::default(), Vec::new(), &[]);
        buckets.used = !locals.is_empty();
        buckets.span = buckets.root(locals);
        buckets
    }

    /// Starts from the windows and buckets of the previous image.
    pub(super) fn kept(root: &Root, windows: Vec<u32>, buckets: &'a [u32]) -> Self {
        Self {
            windows,
            kept: buckets,
            buckets: Vec::new(),
            empty: FxHashMap::default(),
            more: root.more != 0,
            crowded: Vec::new(),
            span: root.span(),
            used: root.used != 0,
        }
    }

    /// Makes the window of a piece again, with new buckets.
    pub(super) fn renew(&mut self, piece: u32, locals: &[Local<K>], cover: [u32; 2]) {
        let (bucket, span) = self.stretch(locals, cover);
        self.window(piece + 1, bucket, &span);
    }

    /// Adds the searches that crowded buckets lead on to.
    pub(super) fn finish(self, searches: &mut Searches, cells: &mut Vec<u32>) -> Made<'a> {
        let Self { windows, kept, mut buckets, more, crowded, span, used, .. } = self;
        let mut levels = 0;
        for Crowded { bucket, intervals } in crowded {
            let added = searches.add(&intervals);
            levels = levels.max(added.levels);
            buckets[bucket as usize * K::BUCKET - kept.len() + BUCKET_MORE] = MORE_SEARCH | cells.len() as u32;
            cells.push(added.entry);
        }
        let root = Root {
            pieces: span.pieces,
            shift: span.shift,
            low_half: span.high.is_some().into(),
            first: span.first,
            high: span.high.unwrap_or(0),
            more: more.into(),
            used: used.into(),
            ..Root::default()
        };
        Made { root, windows, kept, buckets, levels }
    }

    /// The span of the root; without pieces when there is one bucket and no window.
    fn root(&mut self, locals: &[Local<K>]) -> Span {
        // A prefix of all addresses is in no bucket of its own.
        let (cover, locals) = match locals {
            [all, inside @ ..] if all.len == 0 => (all.value, inside),
            _ => ([0; 2], locals),
        };
        let bucket = self.room(1);
        let (Some(low), Some(high), false) = (locals.first(), locals.last(), locals.len() <= PREFIXES) else {
            self.fill(bucket, locals, cover);
            return Span::default();
        };
        let span = Span::aligned(low.first, high.first, locals.len() / ROOT_DENSITY);
        // This is more than needed. Memory that is never written costs nothing.
        self.buckets.reserve(locals.len() * K::BUCKET);
        self.windows = vec![0; (span.pieces as usize + 1) * K::WINDOW];
        self.window(0, bucket, &Span::default());
        let beyond = each_piece(&span, locals, cover, |piece, inside, cover| self.renew(piece, inside, cover));
        self.fill(bucket, &beyond, cover);
        span
    }

    /// Makes the buckets for the prefixes of a window: gives the first bucket, and the span of those after it.
    fn stretch(&mut self, locals: &[Local<K>], cover: [u32; 2]) -> (u32, Span) {
        if locals.is_empty() {
            return (self.empty(cover), Span::default());
        }
        if locals.len() <= PREFIXES {
            let bucket = self.room(1);
            self.fill(bucket, locals, cover);
            return (bucket, Span::default());
        }
        let span = best(locals);
        let first = self.room(1 + span.pieces);
        let beyond =
            each_piece(&span, locals, cover, |piece, inside, cover| self.fill(first + 1 + piece, inside, cover));
        self.fill(first, &beyond, cover);
        (first, span)
    }

    /// Writes a window. The first window is for addresses outside of the root's span.
    fn window(&mut self, number: u32, bucket: u32, span: &Span) {
        let window = &mut self.windows[number as usize * K::WINDOW..][..K::WINDOW];
        window[0] = bucket;
        K::write_span(window, span);
    }

    /// Makes room for buckets and gives the number of the first.
    fn room(&mut self, count: u32) -> u32 {
        let first = (self.kept.len() + self.buckets.len()) / K::BUCKET;
        self.buckets.resize(self.buckets.len() + count as usize * K::BUCKET, 0);
        first as u32
    }

    /// The bucket for a range without prefixes inside.
    fn empty(&mut self, cover: [u32; 2]) -> u32 {
        if let Some(bucket) = self.empty.get(&cover) {
            return *bucket;
        }
        let bucket = self.room(1);
        self.fill(bucket, &[], cover);
        self.empty.insert(cover, bucket);
        bucket
    }

    /// Fills a bucket with prefixes in any order.
    fn fill(&mut self, bucket: u32, locals: &[Local<K>], cover: [u32; 2]) {
        if locals.len() > PREFIXES {
            let mut longest_first = locals.to_vec();
            longest_first.sort_by_key(|local| Reverse(local.len));
            let (held, left) = longest_first.split_at_mut(PREFIXES);
            let more = self.more(bucket, left, cover);
            return self.write(bucket, held, cover, more);
        }
        let mut held = [Local { first: K::MIN, last: K::MIN, len: 0, value: cover }; PREFIXES];
        let held = &mut held[..locals.len()];
        held.copy_from_slice(locals);
        held.sort_by_key(|local| Reverse(local.len));
        self.write(bucket, held, cover, 0);
    }

    /// Writes a bucket of up to [`PREFIXES`], the longest first.
    fn write(&mut self, bucket: u32, held: &[Local<K>], cover: [u32; 2], more: u32) {
        let at = bucket as usize * K::BUCKET - self.kept.len();
        let words = &mut self.buckets[at..at + K::BUCKET];
        let all = Local { first: K::MIN, last: K::MIN, len: 0, value: cover };
        for slot in 0..PREFIXES {
            // Unused slots have a prefix that holds every address.
            let local = held.get(slot).unwrap_or(&all);
            K::write_prefix(words, slot, local);
            words[VALUE_WORDS * slot..][..VALUE_WORDS].copy_from_slice(&local.value);
        }
        words[VALUE_WORDS * PREFIXES..][..VALUE_WORDS].copy_from_slice(&cover);
        words[BUCKET_MORE] = more;
    }

    /// What leads on to the prefixes for which a bucket has no room. 0: a search, which [`Buckets::finish`] adds.
    fn more(&mut self, bucket: u32, left: &mut [Local<K>], cover: [u32; 2]) -> u32 {
        self.more = true;
        if left.len() <= PREFIXES {
            let second = self.room(1);
            self.fill(second, left, cover);
            return second;
        }
        left.sort_by_key(|local| (local.first, local.len));
        let mut sweep = Sweep::<K>::new(cover, 2 * left.len() + 1);
        for local in left.iter() {
            sweep.advance(local.first);
            sweep.enter(local.first, local.last, local.value);
        }
        let mut intervals = sweep.finish();
        intervals.shrink_to_fit();
        self.crowded.push(Crowded { bucket, intervals });
        0
    }
}

/// Calls `each` with every piece, the prefixes inside it, and the value of the prefix that covers it. Returns the
/// prefixes that reach beyond the last piece.
fn each_piece<K: Address>(
    span: &Span,
    mut locals: &[Local<K>],
    cover: [u32; 2],
    mut each: impl FnMut(u32, &[Local<K>], [u32; 2]),
) -> Vec<Local<K>> {
    let len = span.prefix_len::<K>();
    let mut open: Vec<Local<K>> = Vec::new();
    for piece in 0..span.pieces {
        let (first, last) = span.bounds::<K>(piece);
        while open.pop_if(|outer| outer.last < first).is_some() {}
        while let [outer, rest @ ..] = locals
            && outer.first == first
            && outer.len <= len
        {
            open.push(*outer);
            locals = rest;
        }
        let inside = locals.iter().take_while(|local| local.first <= last).count();
        each(piece, &locals[..inside], open.last().map_or(cover, |outer| outer.value));
        locals = &locals[inside..];
    }
    let (_, end) = span.bounds::<K>(span.pieces - 1);
    open.retain(|outer| outer.last > end);
    open
}

/// The span with the fewest buckets. Each prefix that does not fit into its bucket counts as one more.
fn best<K: Address>(locals: &[Local<K>]) -> Span {
    const COARSEST: usize = 3;
    let (low, high) = (locals[0].first, locals[locals.len() - 1].first);
    let mut best = (usize::MAX, Span::default());
    for wanted in [locals.len() / COARSEST, 2 * locals.len() / COARSEST, 4 * locals.len() / COARSEST] {
        let span = Span::aligned(low, high, wanted.max(1));
        let crowded = crowded(&span, locals);
        let cost = span.pieces as usize + crowded;
        if cost < best.0 {
            best = (cost, span);
        }
        if crowded == 0 {
            break;
        }
    }
    best.1
}

/// How many prefixes are in pieces that have more than a bucket holds.
fn crowded<K: Address>(span: &Span, locals: &[Local<K>]) -> usize {
    let len = span.prefix_len::<K>();
    let inside = locals.iter().filter(|local| local.len > len);
    let (mut piece, mut count, mut crowded) = (0, 0, 0);
    for local in inside {
        let at = span.at(local.first);
        if at != piece {
            (piece, count) = (at, 0);
        }
        count += 1;
        crowded += match count {
            ..=PREFIXES => 0,
            n if n == PREFIXES + 1 => n,
            _ => 1,
        };
    }
    crowded
}
