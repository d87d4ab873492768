//! Keys: addresses and the like, as numbers of 32 or 128 bits.

use ipnet::IpNet;

use super::layout::{join, split};
use super::search::Searches;
use crate::Prefix;

/// What can be searched for: a 32-bit or 128-bit key, as two halves of 64 bits of which a window is indexed.
pub(super) trait Key: Copy + Ord + std::fmt::Debug {
    /// How many intervals a block holds.
    const PER_BLOCK: usize;
    /// How many words a key takes.
    const WORDS: usize;
    /// How many bits a key has.
    const BITS: u32;
    /// The lowest key.
    const MIN: Self;
    fn halves(self) -> (u64, u64);
    fn of_halves(high: u64, low: u64) -> Self;
    fn write(self, words: &mut [u32]);
    fn read(words: &[u32]) -> Self;
    fn next(self) -> Option<Self>;
    /// The first and the last address of a prefix of this family.
    fn bounds(prefix: Prefix) -> (Self, Self);
    /// The blocks of keys of this kind.
    fn blocks(searches: &mut Searches) -> &mut Vec<u32>;
}

impl Key for u32 {
    const PER_BLOCK: usize = 10;
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
        let IpNet::V4(net) = prefix.net() else { unreachable!("an IPv6 prefix among IPv4 ones") };
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    fn blocks(searches: &mut Searches) -> &mut Vec<u32> {
        &mut searches.blocks32
    }
}

impl Key for u128 {
    const PER_BLOCK: usize = 5;
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
        words[..2].copy_from_slice(&split(high));
        words[2..4].copy_from_slice(&split(low));
    }

    fn read(words: &[u32]) -> Self {
        Self::of_halves(join(words[0], words[1]), join(words[2], words[3]))
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn bounds(prefix: Prefix) -> (Self, Self) {
        let IpNet::V6(net) = prefix.net() else { unreachable!("an IPv4 prefix among IPv6 ones") };
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    fn blocks(searches: &mut Searches) -> &mut Vec<u32> {
        &mut searches.blocks128
    }
}
