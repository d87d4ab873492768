//! Local prefixes, and how windows and buckets store them for each family.

use super::{
    BUCKET4_KEY, BUCKET4_SHIFT, BUCKET4_WORDS, BUCKET6_HIGH_SHIFT, BUCKET6_KEY, BUCKET6_LOW_SHIFT, BUCKET6_WORDS, Key,
    LOW_HALF, NOTHING, SHIFT, Span, WINDOW4_WORDS, WINDOW6_WORDS, from_words, to_words,
};
use crate::rule::Family;

/// A local prefix and its value: the port table, and the link to the next shorter prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local<K> {
    pub(crate) first: K,
    pub(crate) last: K,
    pub(crate) len: u8,
    pub(crate) value: [u32; 2],
}

/// How windows and buckets store the addresses of a family.
pub(crate) trait Address: Key {
    /// The address of these bits.
    fn of_bits(bits: u128) -> Self;
    /// The first address of the prefix of so many bits that holds this one.
    fn first_of(self, len: u8) -> Self;
    /// The last address of the prefix that begins with this one.
    fn last_of(self, len: u8) -> Self;
    /// The family of these addresses.
    const FAMILY: Family;
    /// How many words a bucket takes.
    const BUCKET: usize;
    /// How many words a window takes.
    const WINDOW: usize;
    /// Writes the prefix of a slot.
    fn write_prefix(bucket: &mut [u32], slot: usize, local: &Local<Self>);
    /// Writes the span of a window.
    fn write_span(window: &mut [u32], span: &Span);
    /// Whether the key is in the prefix of a slot.
    fn is_in(self, bucket: &[u32], slot: usize) -> bool;
    /// The span of a window.
    fn read_span(window: &[u32]) -> Span;
}

/// The byte of a slot in a word of a bucket.
fn byte(word: u32, slot: usize) -> u32 {
    u32::from(word.to_ne_bytes()[slot])
}

fn set_byte(word: &mut u32, slot: usize, byte: u32) {
    let mut bytes = word.to_ne_bytes();
    bytes[slot] = byte as u8;
    *word = u32::from_ne_bytes(bytes);
}

/// A bucket has the values (10 words), `more`, the shifts (one byte each) and the keys (4 words). A window has bucket,
/// pieces, shift and first.
impl Address for u32 {
    const FAMILY: Family = Family::V4;
    const BUCKET: usize = BUCKET4_WORDS;
    const WINDOW: usize = WINDOW4_WORDS;

    fn of_bits(bits: u128) -> Self {
        bits as Self
    }

    fn first_of(self, len: u8) -> Self {
        self & !Self::MAX.checked_shr(len.into()).unwrap_or(0)
    }

    fn last_of(self, len: u8) -> Self {
        self | Self::MAX.checked_shr(len.into()).unwrap_or(0)
    }

    fn write_prefix(bucket: &mut [u32], slot: usize, local: &Local<Self>) {
        set_byte(&mut bucket[BUCKET4_SHIFT], slot, Self::BITS - u32::from(local.len));
        bucket[BUCKET4_KEY + slot] = local.first;
    }

    fn write_span(window: &mut [u32], span: &Span) {
        window[1..4].copy_from_slice(&[span.pieces, span.shift, span.first as u32]);
    }

    fn is_in(self, bucket: &[u32], slot: usize) -> bool {
        u64::from(self ^ bucket[BUCKET4_KEY + slot]) >> byte(bucket[BUCKET4_SHIFT], slot) == 0
    }

    fn read_span(window: &[u32]) -> Span {
        Span { first: window[3].into(), shift: window[2], pieces: window[1], high: None }
    }
}

/// A bucket has the values (10 words), `more`, 1 unused word, the shifts of the high halves and of the low halves (one
/// byte each), 2 unused words and the keys (16 words). A window has bucket, pieces, shift, 1 unused word, first and
/// high.
impl Address for u128 {
    const FAMILY: Family = Family::V6;
    const BUCKET: usize = BUCKET6_WORDS;
    const WINDOW: usize = WINDOW6_WORDS;

    fn of_bits(bits: u128) -> Self {
        bits
    }

    fn first_of(self, len: u8) -> Self {
        self & !Self::MAX.checked_shr(len.into()).unwrap_or(0)
    }

    fn last_of(self, len: u8) -> Self {
        self | Self::MAX.checked_shr(len.into()).unwrap_or(0)
    }

    fn write_prefix(bucket: &mut [u32], slot: usize, local: &Local<Self>) {
        let shift = Self::BITS - u32::from(local.len);
        let nothing = 63 | 1 << NOTHING;
        let (high, low) = match shift {
            0..64 => (0, shift),
            64..128 => (shift - 64, nothing),
            _ => (nothing, nothing),
        };
        set_byte(&mut bucket[BUCKET6_HIGH_SHIFT], slot, high);
        set_byte(&mut bucket[BUCKET6_LOW_SHIFT], slot, low);
        local.first.write(&mut bucket[BUCKET6_KEY + 4 * slot..]);
    }

    fn write_span(window: &mut [u32], span: &Span) {
        let half = if span.high.is_some() { LOW_HALF } else { 0 };
        window[1..4].copy_from_slice(&[span.pieces, span.shift | half, 0]);
        window[4..6].copy_from_slice(&to_words(span.first));
        window[6..8].copy_from_slice(&to_words(span.high.unwrap_or(0)));
    }

    fn is_in(self, bucket: &[u32], slot: usize) -> bool {
        let (high, low) = (self ^ Self::read(&bucket[BUCKET6_KEY + 4 * slot..])).halves();
        let outside = |half: u64, shift: u32| half >> (shift & SHIFT) >> (shift >> NOTHING) != 0;
        !outside(high, byte(bucket[BUCKET6_HIGH_SHIFT], slot)) && !outside(low, byte(bucket[BUCKET6_LOW_SHIFT], slot))
    }

    fn read_span(window: &[u32]) -> Span {
        let high = (window[2] & LOW_HALF != 0).then(|| from_words(window[6], window[7]));
        let first = from_words(window[4], window[5]);
        Span { first, shift: window[2] & SHIFT, pieces: window[1], high }
    }
}
