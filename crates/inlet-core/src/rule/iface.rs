//! Network interfaces as a rule names them.

use std::fmt;
use std::str::FromStr;

/// The name of a network interface: 1 to 15 bytes, as the kernel's `dev_valid_name` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Box<str>);

/// A text that cannot be the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interface name; give 1 to 15 bytes without '/', ':' or spaces, as `ip link` shows them")]
pub struct InterfaceNameError(String);

/// An interface in the table of one ruleset. The number means nothing outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(u16);

/// An interface that rules of a ruleset name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// Its index in the namespace when the ruleset was committed, 0 when there was none: then its rules match nothing.
    pub index: u32,
}

impl InterfaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IfaceId {
    /// The interface at this offset of the table.
    pub fn new(number: u16) -> Self {
        Self(number)
    }

    /// The offset in the table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, InterfaceNameError> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(bad) {
            return Err(InterfaceNameError(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
