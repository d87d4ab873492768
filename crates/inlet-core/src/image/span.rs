//! Spans: stretches of addresses cut into pieces of one size, a power of two, so that a prefix covers a piece whole, lies
//! inside one, or has nothing of it.

use super::key::Key;

/// Pieces one after the other, told apart by a window of the key's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// The window's value where the first piece begins.
    pub(super) first: u64,
    /// How far the window is shifted right: the size of a piece.
    pub(super) shift: u32,
    /// How many pieces there are.
    pub(super) pieces: u32,
    /// `Some` when the window lies in the low half of the key: the high half that all keys of the span have.
    pub(super) high: Option<u64>,
}

impl Span {
    /// The smallest span that has both keys, in pieces of which there are at most `wanted`, or one.
    pub(super) fn over<K: Key>(low: K, high: K, wanted: usize) -> Self {
        let ((low_high, low_low), (high_high, high_low)) = (low.halves(), high.halves());
        let (first, last, common) = match low_high == high_high && K::WORDS > 1 {
            true => (low_low, high_low, Some(low_high)),
            false => (low_high, high_high, None),
        };
        let fits = |shift: &u32| (last >> shift) - (first >> shift) < wanted.max(1) as u64;
        let shift = (0..63).find(fits).unwrap_or(63);
        let pieces = ((last >> shift) - (first >> shift)) as u32 + 1;
        Self { first: first >> shift << shift, shift, pieces, high: common }
    }

    /// Where the key is: in the first piece 1, and outside of the span 0.
    pub(super) fn at<K: Key>(&self, key: K) -> usize {
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

    /// The first and the last key of a piece.
    pub(super) fn bounds<K: Key>(&self, piece: u32) -> (K, K) {
        let first = self.first + (u64::from(piece) << self.shift);
        let last = first + ((1 << self.shift) - 1);
        match self.high {
            Some(high) => (K::of_halves(high, first), K::of_halves(high, last)),
            None => (K::of_halves(first, 0), K::of_halves(last, u64::MAX)),
        }
    }

    /// How long the prefix of a piece is.
    pub(super) fn prefix_len<K: Key>(&self) -> u8 {
        let bits = if self.high.is_some() || K::WORDS == 1 { K::BITS } else { K::BITS / 2 };
        (bits - self.shift) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_its_piece_or_outside() {
        let span = Span::over::<u32>(0x0a00_0010, 0x0a00_00ff, 4);
        assert_eq!(span, Span { first: 0x0a00_0000, shift: 6, pieces: 4, high: None });
        assert_eq!([0x0a00_0000, 0x0a00_003f, 0x0a00_0040, 0x0a00_00ff].map(|key: u32| span.at(key)), [1, 1, 2, 4]);
        assert_eq!([0, 0x09ff_ffff, 0x0a00_0100, u32::MAX].map(|key: u32| span.at(key)), [0; 4]);
        assert_eq!(span.bounds::<u32>(1), (0x0a00_0040, 0x0a00_007f));
        assert_eq!(span.prefix_len::<u32>(), 26);
    }

    #[test]
    fn keys_of_one_high_half_are_told_apart_by_the_low_one() {
        let high = 0x2001_0db8_u128 << 96;
        let span = Span::over::<u128>(high | 1, high | 0x1_0000, 64);
        assert_eq!((span.high, span.prefix_len::<u128>()), (Some(0x2001_0db8_0000_0000), (128 - span.shift) as u8));
        assert_eq!(span.at::<u128>(high | 0x1_0000), span.pieces as usize);
        assert_eq!([span.at::<u128>(1), span.at::<u128>(high | 1 << 64), span.at::<u128>(u128::MAX)], [0; 3]);
    }
}
