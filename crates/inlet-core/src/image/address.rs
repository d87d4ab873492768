//! Local prefixes, and how addresses of a family lie in windows and buckets.

use super::key::Key;
use super::layout::{join, split};
use super::span::Span;

/// How many prefixes a bucket holds.
pub(super) const PREFIXES: usize = 4;

/// A local prefix and what is found there: the port table, and the link to the next shorter prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local<K> {
    pub(super) first: K,
    pub(super) last: K,
    pub(super) len: u8,
    pub(super) value: [u32; 2],
}

/// How addresses of a family lie in buckets and windows.
pub(super) trait Address: Key {
    /// The address of these bits.
    fn of_bits(bits: u128) -> Self;
    /// The first address of the prefix of so many bits that holds this one.
    fn first_of(self, len: u8) -> Self;
    /// The last address of the prefix that begins with this one.
    fn last_of(self, len: u8) -> Self;
    /// Whether this is IPv6.
    const IS_V6: bool;
    /// How many words a bucket takes.
    const BUCKET: usize;
    /// How many words a window takes.
    const WINDOW: usize;
    /// Where in a bucket the values are: those of the prefixes, then that of the rest. Then `more`.
    const VALUES: usize;
    /// Where `more` is.
    const MORE: usize;
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

/// Bucket: values (10 words), more, shifts (a byte each), keys (4 words). Window: bucket, pieces, shift, first.
impl Address for u32 {
    const IS_V6: bool = false;
    const BUCKET: usize = 16;
    const WINDOW: usize = 4;
    const VALUES: usize = 0;
    const MORE: usize = 10;

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
        set_byte(&mut bucket[11], slot, Self::BITS - u32::from(local.len));
        bucket[12 + slot] = local.first;
    }

    fn write_span(window: &mut [u32], span: &Span) {
        window[1..4].copy_from_slice(&[span.pieces, span.shift, span.first as u32]);
    }

    fn is_in(self, bucket: &[u32], slot: usize) -> bool {
        u64::from(self ^ bucket[12 + slot]) >> byte(bucket[11], slot) == 0
    }

    fn read_span(window: &[u32]) -> Span {
        Span { first: window[3].into(), shift: window[2], pieces: window[1], high: None }
    }
}

/// In the byte of a slot for a half: nothing of it belongs to the prefix.
pub(super) const NOTHING: u32 = 1 << 7;
/// In word 2 of a window: the window's bits are those of the low half.
pub(super) const LOW_HALF: u32 = 1 << 8;

/// Bucket: values (10 words), more, nothing, shifts of the high halves and of the low halves (a byte each), 2 words
/// nothing, keys (16 words). Window: bucket, pieces, shift, nothing, first, high.
impl Address for u128 {
    const IS_V6: bool = true;
    const BUCKET: usize = 32;
    const WINDOW: usize = 8;
    const VALUES: usize = 0;
    const MORE: usize = 10;

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
        let nothing = 63 | NOTHING;
        let (high, low) = match shift {
            0..64 => (0, shift),
            64..128 => (shift - 64, nothing),
            _ => (nothing, nothing),
        };
        set_byte(&mut bucket[12], slot, high);
        set_byte(&mut bucket[13], slot, low);
        local.first.write(&mut bucket[16 + 4 * slot..]);
    }

    fn write_span(window: &mut [u32], span: &Span) {
        let half = if span.high.is_some() { LOW_HALF } else { 0 };
        window[1..4].copy_from_slice(&[span.pieces, span.shift | half, 0]);
        window[4..6].copy_from_slice(&split(span.first));
        window[6..8].copy_from_slice(&split(span.high.unwrap_or(0)));
    }

    fn is_in(self, bucket: &[u32], slot: usize) -> bool {
        let (high, low) = (self ^ Self::read(&bucket[16 + 4 * slot..])).halves();
        let outside = |half: u64, shift: u32| half >> (shift & 0x3f) >> (shift >> 7) != 0;
        !outside(high, byte(bucket[12], slot)) && !outside(low, byte(bucket[13], slot))
    }

    fn read_span(window: &[u32]) -> Span {
        let high = (window[2] & LOW_HALF != 0).then(|| join(window[6], window[7]));
        let first = join(window[4], window[5]);
        Span { first, shift: window[2] & 0x3f, pieces: window[1], high }
    }
}
