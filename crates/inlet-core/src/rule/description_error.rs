//! Why a text does not describe sockets, and the limits that the kernel program sets.

use std::borrow::Cow;

use super::{ProtocolError, Remedy};

/// How many levels deep a control group may be.
pub const MAX_DEPTH: usize = 8;
/// How many bytes the name of a control group may have.
pub const MAX_NAME: usize = 127;

/// Why a text or a list is not a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// The protocol is unknown.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The text is not a protocol, an address and a port.
    #[error("{0:?} is not a protocol, an address and a port")]
    Listen(String),
    /// Port 0, which no bound socket has.
    #[error("{0:?}: port 0 cannot be described")]
    Zero(String),
    /// No address is given.
    #[error("a description needs at least one address to listen on, such as tcp:127.0.0.1:8080")]
    Empty,
    /// The text is not the name of a unit.
    #[error("{0:?} is not the name of a unit")]
    Unit(String),
    /// The text is not the path of a control group.
    #[error("{0:?} is not the path of a control group")]
    Cgroup(String),
    /// The path has more levels than the kernel program compares.
    #[error("control group {0:?} is more than {MAX_DEPTH} levels deep")]
    Deep(String),
    /// A name in the path has more bytes than the kernel program compares.
    #[error("control group {0:?} has a name of more than {MAX_NAME} bytes")]
    LongName(String),
    /// The text is not the name of a user.
    #[error("{0:?} is not the name or number of a user")]
    User(String),
}

impl Remedy for DescriptionError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Protocol(error) => return error.remedy(),
            Self::Listen(_) => "write tcp:127.0.0.1:8080, udp:[::1]:53 or tcp:*:80".into(),
            Self::Zero(_) => "ports go from 1 to 65535".into(),
            Self::Unit(_) => "write it like nginx.service".into(),
            Self::Cgroup(_) => "write it from the cgroup v2 root, like /system.slice/nginx.service".into(),
            Self::Empty | Self::Deep(_) | Self::LongName(_) | Self::User(_) => return None,
        })
    }
}
