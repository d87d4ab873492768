//! Network interfaces as a rule names them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::Remedy;

/// The name of a network interface: 1 to 15 bytes, by the rule of the kernel's `dev_valid_name`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    /// Padded with 0, which no name has.
    bytes: [u8; InterfaceName::MAX_BYTES],
}

/// A text that cannot be the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interface name")]
pub struct InterfaceNameError(String);

/// The number of an interface in one ruleset. It means nothing outside of that ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(u16);

/// An interface that rules of a ruleset name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// The kernel's index when the ruleset was committed, 0 when there was no such interface. Then its rules match
    /// nothing.
    pub index: u32,
}

impl Remedy for InterfaceNameError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some("give 1 to 15 bytes without '/', ':' or spaces, as `ip link` shows them".into())
    }
}

impl InterfaceName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(Self::MAX_BYTES);
        // It was made from text.
        std::str::from_utf8(&self.bytes[..len]).unwrap_or_default()
    }
}

impl IfaceId {
    /// The interface at this offset of [`Ruleset::interfaces`](crate::ruleset::Ruleset::interfaces).
    pub fn new(number: u16) -> Self {
        Self(number)
    }

    /// The offset in [`Ruleset::interfaces`](crate::ruleset::Ruleset::interfaces).
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, InterfaceNameError> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > Self::MAX_BYTES || text == "." || text == ".." || text.contains(bad) {
            return Err(InterfaceNameError(text.to_owned()));
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes })
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in ["l", "eth0", "eth0.100@x%y]", "abcdefghijklmno", "schnittstelle-x", "büro0"] {
            assert_eq!(text.parse::<InterfaceName>().unwrap().as_str(), text);
        }
        for text in ["", ".", "..", "a b", "a/b", "a:b", "abcdefghijklmnop", "a\0b"] {
            assert_eq!(text.parse::<InterfaceName>(), Err(InterfaceNameError(text.into())));
        }
        let name = |text: &str| text.parse::<InterfaceName>().unwrap();
        assert!(name("eth1") < name("eth10") && name("eth10") < name("eth2"));
    }
}
