//! Marks as a rule names them: a value, and the bits that count.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::Remedy;

/// Some bits of a packet's mark and what they must be: `0x1/0xff`. Written without a mask, all bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    mask: u32,
    value: u32,
}

/// Why a text or two numbers are not a mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The text does not read as `VALUE` or `VALUE/MASK`.
    #[error("{0:?} is not a mark")]
    Text(String),
    /// No bit counts.
    #[error("a mask of 0 leaves no bit of the mark to match")]
    NoBit,
    /// The value has bits that the mask leaves out.
    #[error("value {value:#x} has bits outside of mask {mask:#x}")]
    Outside {
        /// The value.
        value: u32,
        /// The mask.
        mask: u32,
    },
}

impl Remedy for MarkError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Text(_) => "write VALUE or VALUE/MASK, each up to 0xffffffff: 0x1/0xff".into(),
            Self::NoBit => "leave the mark out, which matches every packet".into(),
            Self::Outside { value, mask } if value & mask == 0 => format!("widen the mask: {value:#x}").into(),
            Self::Outside { value, mask } => {
                format!("write {:#x}/{mask:#x}, or widen the mask: {value:#x}/{:#x}", value & mask, value | mask).into()
            }
        })
    }
}

impl Mark {
    /// The bits of `mask` must be those of `value`.
    ///
    /// # Errors
    /// [`MarkError::NoBit`], [`MarkError::Outside`].
    pub fn new(value: u32, mask: u32) -> Result<Self, MarkError> {
        match (mask, value & !mask) {
            (0, _) => Err(MarkError::NoBit),
            (_, 0) => Ok(Self { mask, value }),
            _ => Err(MarkError::Outside { value, mask }),
        }
    }

    /// What the bits must be.
    pub fn value(self) -> u32 {
        self.value
    }

    /// The bits that count.
    pub fn mask(self) -> u32 {
        self.mask
    }

    /// How many bits count, at least one.
    pub fn bits(self) -> u8 {
        self.mask.count_ones() as u8
    }

    /// Whether a packet's mark matches.
    pub fn matches(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }

    /// The mark that matches what both match.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let shared = self.mask & other.mask;
        let meet = self.value & shared == other.value & shared;
        meet.then_some(Self { mask: self.mask | other.mask, value: self.value | other.value })
    }

    /// Whether it matches all that `other` matches.
    pub fn covers(self, other: Self) -> bool {
        self.mask & other.mask == self.mask && self.matches(other.value)
    }

    /// The two halves that one more bit makes of it; `None` when that bit counts already.
    pub(crate) fn halves(self, bit: u32) -> Option<[Self; 2]> {
        let half = |value| Self { mask: self.mask | bit, value };
        (self.mask & bit == 0).then(|| [half(self.value), half(self.value | bit)])
    }
}

/// A number as C writes it, decimal or hexadecimal.
fn number(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = hex.unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(digits, if hex.is_some() { 16 } else { 10 }).ok()).flatten()
}

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(u32::MAX)),
        };
        match (value, mask) {
            (Some(value), Some(mask)) => Self::new(value, mask),
            _ => Err(MarkError::Text(text.to_owned())),
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, mask } = self;
        match *mask {
            u32::MAX => write!(f, "{value:#x}"),
            mask => write!(f, "{value:#x}/{mask:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> Mark {
        text.parse().unwrap()
    }

    #[test]
    fn marks_read_as_they_are_written() {
        for (text, written) in [("1", "0x1"), ("0x1/0xff", "0x1/0xff"), ("0", "0x0"), ("255/255", "0xff/0xff")] {
            assert_eq!(mark(text).to_string(), written);
            assert_eq!(mark(written), mark(text));
        }
        assert_eq!(mark("4294967295").to_string(), "0xffffffff");
    }

    #[test]
    fn what_is_no_mark_says_what_to_write() {
        let error = |text: &str| {
            let error = text.parse::<Mark>().unwrap_err();
            format!("{error}; {}", error.remedy().unwrap())
        };
        let form = "write VALUE or VALUE/MASK, each up to 0xffffffff: 0x1/0xff";
        for text in ["", "0x", "/", "1/", "/1", "-1", "+1", "0x+1", "0x100000000", "1/2/3", "ff", "1 "] {
            assert_eq!(error(text), format!("{text:?} is not a mark; {form}"));
        }
        let no_bit = "a mask of 0 leaves no bit of the mark to match; leave the mark out, which matches every packet";
        assert_eq!(error("0/0"), no_bit);
        assert_eq!(error("1/0"), no_bit);
        let outside = "value 0x101 has bits outside of mask 0xff; write 0x1/0xff, or widen the mask: 0x101/0x1ff";
        assert_eq!(error("0x101/0xff"), outside);
        assert_eq!(error("2/1"), "value 0x2 has bits outside of mask 0x1; widen the mask: 0x2");
    }

    #[test]
    fn marks_meet_where_their_common_bits_agree() {
        assert_eq!(mark("0x1/0xf").intersection(mark("0x10/0xf0")), Some(mark("0x11/0xff")));
        assert_eq!(mark("0x1/0xf").intersection(mark("0x2/0x3")), None);
        assert!(mark("0x1/0x1").covers(mark("0x3/0xf")) && !mark("0x3/0xf").covers(mark("0x1/0x1")));
        assert!(!mark("0x1/0x1").covers(mark("0x2/0xf")));
    }
}
