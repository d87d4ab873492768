//! Spans: ranges of keys that are cut into pieces of one size, a power of two.

use super::Key;

/// Pieces one after the other, told apart by one half of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The value of that half at the start of the first piece.
    pub(crate) first: u64,
    /// The size of a piece: how far the distance from `first` is shifted right to give the piece.
    pub(crate) shift: u32,
    /// How many pieces there are.
    pub(crate) pieces: u32,
    /// `Some` when the low half tells the pieces apart: the high half of all keys of the span.
    pub(crate) high: Option<u64>,
}

impl Span {
    /// The smallest span of aligned pieces that holds both keys, with at most `wanted` pieces, or one. A prefix covers
    /// an aligned piece whole, lies inside it, or has nothing of it.
    pub(crate) fn aligned<K: Key>(low: K, high: K, wanted: usize) -> Self {
        let (first, last, common) = ends(low, high);
        let fits = |shift: &u32| (last >> shift) - (first >> shift) < wanted.max(1) as u64;
        let shift = (0..63).find(fits).unwrap_or(63);
        let pieces = ((last >> shift) - (first >> shift)) as u32 + 1;
        Self { first: first >> shift << shift, shift, pieces, high: common }
    }

    /// The smallest span that begins with the lower key and holds both, with at most `wanted` pieces, or one.
    pub(crate) fn from_first<K: Key>(low: K, high: K, wanted: usize) -> Self {
        let (first, last, common) = ends(low, high);
        let fits = |shift: &u32| (last - first) >> shift < wanted.max(1) as u64;
        let shift = (0..64).find(fits).unwrap_or(63);
        Self { first, shift, pieces: ((last - first) >> shift) as u32 + 1, high: common }
    }

    /// The piece of a key, counted from 1 on; 0 for a key outside of the span.
    pub(crate) fn at<K: Key>(&self, key: K) -> usize {
        let (high, low) = key.halves();
        let value = match self.high {
            None => high,
            Some(common) if common == high => low,
            Some(_) => return 0,
        };
        match value.checked_sub(self.first).map(|distance| distance >> self.shift) {
            Some(piece) if piece < u64::from(self.pieces) => piece as usize + 1,
            _ => 0,
        }
    }

    /// The piece of a key, counted from 0 on; the first or the last piece for a key outside of the span.
    pub(crate) fn nearest<K: Key>(&self, key: K) -> usize {
        let (high, low) = key.halves();
        let value = match self.high {
            None => high,
            Some(common) if common == high => low,
            Some(common) if high < common => 0,
            Some(_) => u64::MAX,
        };
        let piece = value.saturating_sub(self.first) >> self.shift;
        piece.min(u64::from(self.pieces) - 1) as usize
    }

    /// The first and the last key of a piece, counted from 0 on.
    pub(crate) fn bounds<K: Key>(&self, piece: u32) -> (K, K) {
        let first = self.first + (u64::from(piece) << self.shift);
        let last = first + ((1 << self.shift) - 1);
        match self.high {
            Some(high) => (K::of_halves(high, first), K::of_halves(high, last)),
            None => (K::of_halves(first, 0), K::of_halves(last, u64::MAX)),
        }
    }

    /// The length in bits of the prefix that an aligned piece is.
    pub(crate) fn prefix_len<K: Key>(&self) -> u8 {
        let bits = if self.high.is_some() || K::WORDS == 1 { K::BITS } else { K::BITS / 2 };
        (bits - self.shift) as u8
    }
}

/// Both keys in the half that tells them apart; and the high half, when that is the low one.
fn ends<K: Key>(low: K, high: K) -> (u64, u64, Option<u64>) {
    let ((low_high, low_low), (high_high, high_low)) = (low.halves(), high.halves());
    match low_high == high_high && K::WORDS > 1 {
        true => (low_low, high_low, Some(low_high)),
        false => (low_high, high_high, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_its_piece_or_outside() {
        let span = Span::aligned::<u32>(0x0a00_0010, 0x0a00_00ff, 4);
        assert_eq!(span, Span { first: 0x0a00_0000, shift: 6, pieces: 4, high: None });
        assert_eq!([0x0a00_0000, 0x0a00_003f, 0x0a00_0040, 0x0a00_00ff].map(|key: u32| span.at(key)), [1, 1, 2, 4]);
        assert_eq!([0, 0x09ff_ffff, 0x0a00_0100, u32::MAX].map(|key: u32| span.at(key)), [0; 4]);
        assert_eq!([0, 0x0a00_003f, 0x0a00_0040, u32::MAX].map(|key: u32| span.nearest(key)), [0, 0, 1, 3]);
        assert_eq!(span.bounds::<u32>(1), (0x0a00_0040, 0x0a00_007f));
        assert_eq!(span.prefix_len::<u32>(), 26);
    }

    #[test]
    fn keys_of_one_high_half_are_told_apart_by_the_low_one() {
        let high = 0x2001_0db8_u128 << 96;
        let span = Span::aligned::<u128>(high | 1, high | 0x1_0000, 64);
        assert_eq!((span.high, span.prefix_len::<u128>()), (Some(0x2001_0db8_0000_0000), (128 - span.shift) as u8));
        assert_eq!(span.at::<u128>(high | 0x1_0000), span.pieces as usize);
        assert_eq!([span.at::<u128>(1), span.at::<u128>(high | 1 << 64), span.at::<u128>(u128::MAX)], [0; 3]);
    }

    #[test]
    fn a_span_may_begin_with_its_first_key() {
        let span = Span::from_first::<u32>(0x0a00_0010, 0x0a00_00ff, 4);
        assert_eq!(span, Span { first: 0x0a00_0010, shift: 6, pieces: 4, high: None });
        assert_eq!([0, 0x0a00_004f, 0x0a00_0050, u32::MAX].map(|key: u32| span.nearest(key)), [0, 0, 1, 3]);
        let high = 0x2001_0db8_u128 << 96;
        let span = Span::from_first::<u128>(high | 1, high | 0x1_0000, 64);
        assert_eq!((span.first, span.high), (1, Some(0x2001_0db8_0000_0000)));
        assert_eq!([0, high, u128::MAX].map(|key| span.nearest(key)), [0, 0, span.pieces as usize - 1]);
    }
}
