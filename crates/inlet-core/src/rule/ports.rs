//! Local ports: one, a range, several, or all.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::Remedy;

/// A range of ports in host byte order, both ends included. It never has port 0. `1-65535` is written `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Port ranges as an operator writes them: `80`, `8000-8999`, `80,443,8000-8999` or `any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Ranges);

/// Nearly always there is one range. It needs no memory on the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ranges {
    One(PortRange),
    Several(Vec<PortRange>),
}

/// Why a text is not a port or a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not a number from 1 to 65535, nor two of them with a hyphen, nor `any`.
    #[error("{0:?} is not a port")]
    Syntax(String),
    /// Port 0, which no socket can have.
    #[error("port 0 cannot be matched")]
    Zero,
    /// The last port is lower than the first.
    #[error("port range {first}-{last} is reversed")]
    Reversed {
        /// The number before the hyphen.
        first: u16,
        /// The number after it.
        last: u16,
    },
    /// The text has no port.
    #[error("no port given")]
    Empty,
}

impl Remedy for PortError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Syntax(_) | Self::Empty => "write 80, 8000-8999, 80,443 or any".into(),
            Self::Zero => "ports go from 1 to 65535".into(),
            Self::Reversed { first, last } => format!("write {last}-{first}").into(),
        })
    }
}

impl PortRange {
    /// All ports, 1 to 65535.
    pub const ANY: Self = Self { first: 1, last: u16::MAX };

    /// The ports from `first` to `last`.
    ///
    /// # Errors
    /// [`PortError::Zero`] and [`PortError::Reversed`].
    pub fn new(first: u16, last: u16) -> Result<Self, PortError> {
        match (first, last) {
            (0, _) | (_, 0) => Err(PortError::Zero),
            _ if last < first => Err(PortError::Reversed { first, last }),
            _ => Ok(Self { first, last }),
        }
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports, 1 to 65535. The narrower range wins.
    pub fn width(self) -> u16 {
        self.last - self.first + 1
    }

    /// Whether the port is inside.
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether a port is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let text = text.trim();
        if text == "any" {
            return Ok(Self::ANY);
        }
        let number = |part: &str| part.trim().parse::<u16>().map_err(|_| PortError::Syntax(text.to_owned()));
        match text.split_once('-') {
            Some((first, last)) => Self::new(number(first)?, number(last)?),
            None if text.is_empty() => Err(PortError::Empty),
            None => number(text).and_then(|port| Self::new(port, port)),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANY => f.write_str("any"),
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl Ports {
    /// The ranges in the order given; at least one.
    pub fn ranges(&self) -> &[PortRange] {
        match &self.0 {
            Ranges::One(range) => std::slice::from_ref(range),
            Ranges::Several(ranges) => ranges,
        }
    }
}

impl From<PortRange> for Ports {
    fn from(range: PortRange) -> Self {
        Self(Ranges::One(range))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for range in self.ranges() {
            write!(f, "{separator}{range}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        // Nearly all texts are a number, and a file may have a million of them.
        if let Ok(port) = text.parse::<u16>() {
            return PortRange::new(port, port).map(Self::from);
        }
        Ok(Self(match text.contains(',') {
            false => Ranges::One(text.parse()?),
            true => Ranges::Several(text.split(',').map(str::parse).collect::<Result<_, _>>()?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let ports: Ports = "80,443,8000-8999".parse().unwrap();
        assert_eq!(ports.ranges().iter().map(PortRange::to_string).collect::<Vec<_>>(), ["80", "443", "8000-8999"]);
        assert_eq!("1-65535".parse::<PortRange>().unwrap(), PortRange::ANY);
        assert_eq!("any".parse::<PortRange>().unwrap().width(), 65535);
        assert_eq!("7-7".parse::<PortRange>().unwrap().to_string(), "7");
    }

    #[test]
    fn errors() {
        let error = |text: &str| text.parse::<Ports>().unwrap_err();
        assert_eq!(error("0"), PortError::Zero);
        assert_eq!(error("0-10"), PortError::Zero);
        assert_eq!(error(""), PortError::Empty);
        assert_eq!(error("80,"), PortError::Empty);
        assert_eq!(error("90-80"), PortError::Reversed { first: 90, last: 80 });
        for text in ["http", "80-", "-80", "65536", "80:90"] {
            assert_eq!(error(text), PortError::Syntax(text.into()));
        }
    }
}
