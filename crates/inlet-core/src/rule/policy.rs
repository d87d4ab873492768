//! What may be asked of a service beside its sockets.

use std::fmt;
use std::str::FromStr;

use super::service_error::ServiceError;

/// What happens to a packet for a service that has no live socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnMissing {
    /// TCP reset or ICMP port unreachable: no other socket receives what was meant for the service.
    #[default]
    Refuse,
    /// The kernel's ordinary lookup decides.
    Pass,
}

/// Who chooses among the live sockets of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Inlet, by a hash of the flow: the sockets of the service, those and no others, share its packets.
    #[default]
    Inlet,
    /// The SO_REUSEPORT group of the socket that Inlet chose, by its own program if it has one. Members that are not of
    /// the service get packets too.
    Group,
}

/// Where the answers of a service over UDP leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// From the address and port that the client asked, whatever the socket is bound to.
    Asked,
    /// From where the kernel sends them: the address and port that the socket is bound to.
    Bound,
}

/// For how many seconds a flow over UDP stays on its socket after it was last seen. 0: the hash of the flow decides
/// about each datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sticky(u16);

impl OnMissing {
    /// `refuse` or `pass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Pass => "pass",
        }
    }
}

impl FromStr for OnMissing {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "pass" => Ok(Self::Pass),
            _ => Err(ServiceError::OnMissing(text.to_owned())),
        }
    }
}

impl fmt::Display for OnMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Spread {
    /// `inlet` or `group`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inlet => "inlet",
            Self::Group => "group",
        }
    }
}

impl FromStr for Spread {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            "inlet" => Ok(Self::Inlet),
            "group" => Ok(Self::Group),
            _ => Err(ServiceError::Spread(text.to_owned())),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Answers {
    /// `asked` or `bound`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Bound => "bound",
        }
    }
}

impl FromStr for Answers {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            "asked" => Ok(Self::Asked),
            "bound" => Ok(Self::Bound),
            _ => Err(ServiceError::Answers(text.to_owned())),
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Sticky {
    /// The longest time: four hours.
    pub const MAX: u16 = 4 * 60 * 60;

    /// Flows stay for so many seconds; `None` when that is longer than the longest time.
    pub fn new(seconds: u16) -> Option<Self> {
        (seconds <= Self::MAX).then_some(Self(seconds))
    }

    /// The seconds, 0 for none.
    pub fn seconds(self) -> u16 {
        self.0
    }

    /// Whether flows stay.
    pub fn is_on(self) -> bool {
        self.0 != 0
    }
}

impl FromStr for Sticky {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| digits);
        seconds.and_then(Self::new).ok_or_else(|| ServiceError::Sticky(text.to_owned()))
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
