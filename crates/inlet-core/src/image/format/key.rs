//! Keys: addresses and the like, as numbers of 32 or 128 bits.

use super::{BLOCK32_KEYS, BLOCK128_KEYS, from_words, to_words};
use crate::rule::{Prefix, Protocol};

/// The key of a port: the bit of the protocol above its 16 bits.
pub(crate) fn port_key(protocol: Protocol, port: u16) -> u32 {
    match protocol {
        Protocol::Tcp => u32::from(port),
        Protocol::Udp => 1 << 16 | u32::from(port),
    }
}

/// What can be searched for: a key of 32 or 128 bits. Searches look at it as two halves of 64 bits; an IPv4 address is
/// the high one.
pub(crate) trait Key: Copy + Ord + std::fmt::Debug {
    /// How many intervals a block holds.
    const PER_BLOCK: usize;
    /// How many words a key takes.
    const WORDS: usize;
    /// How many bits a key has.
    const BITS: u32;
    /// The lowest key.
    const MIN: Self;
    /// The high and the low half.
    fn halves(self) -> (u64, u64);
    fn of_halves(high: u64, low: u64) -> Self;
    fn write(self, words: &mut [u32]);
    fn read(words: &[u32]) -> Self;
    /// The key after this one; `None` after the highest.
    fn next(self) -> Option<Self>;
    /// The first and the last address of a prefix of this family.
    fn bounds(prefix: Prefix) -> (Self, Self);
}

impl Key for u32 {
    const PER_BLOCK: usize = BLOCK32_KEYS;
    const WORDS: usize = 1;
    const BITS: u32 = 32;
    const MIN: Self = 0;

    fn halves(self) -> (u64, u64) {
        (u64::from(self), 0)
    }

    fn of_halves(high: u64, _: u64) -> Self {
        high as Self
    }

    fn write(self, words: &mut [u32]) {
        words[0] = self;
    }

    fn read(words: &[u32]) -> Self {
        words[0]
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn bounds(prefix: Prefix) -> (Self, Self) {
        prefix.bounds4()
    }
}

impl Key for u128 {
    const PER_BLOCK: usize = BLOCK128_KEYS;
    const WORDS: usize = 4;
    const BITS: u32 = 128;
    const MIN: Self = 0;

    fn halves(self) -> (u64, u64) {
        ((self >> 64) as u64, self as u64)
    }

    fn of_halves(high: u64, low: u64) -> Self {
        Self::from(high) << 64 | Self::from(low)
    }

    fn write(self, words: &mut [u32]) {
        let (high, low) = self.halves();
        words[..2].copy_from_slice(&to_words(high));
        words[2..4].copy_from_slice(&to_words(low));
    }

    fn read(words: &[u32]) -> Self {
        Self::of_halves(from_words(words[0], words[1]), from_words(words[2], words[3]))
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn bounds(prefix: Prefix) -> (Self, Self) {
        prefix.bounds6()
    }
}
