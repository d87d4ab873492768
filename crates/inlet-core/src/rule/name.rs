//! Service names.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use super::Remedy;

/// The name of a service: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Box<str>);

/// Why a text is not a service name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("service name is empty")]
    Empty,
    /// The text is longer than 255 bytes.
    #[error("service name is {0} bytes long")]
    TooLong(usize),
    /// The text has a control character.
    #[error("service name {0:?} has a control character")]
    Control(String),
}

impl Remedy for NameError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Empty => "give it 1 to 255 bytes".into(),
            Self::TooLong(_) => "at most 255 fit".into(),
            Self::Control(_) => "use printable text".into(),
        })
    }
}

impl ServiceName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::Control(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!("".parse::<ServiceName>(), Err(NameError::Empty));
        assert_eq!("x".repeat(256).parse::<ServiceName>(), Err(NameError::TooLong(256)));
        assert!("x".repeat(255).parse::<ServiceName>().is_ok());
        assert_eq!("a\nb".parse::<ServiceName>(), Err(NameError::Control("a\nb".into())));
        assert_eq!("web frontend".parse::<ServiceName>().unwrap().as_str(), "web frontend");
    }
}
