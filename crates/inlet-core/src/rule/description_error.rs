//! Why a text is no description of sockets, and the limits of the kernel program that such a text must keep.

use super::ProtocolError;

/// How many levels deep a control group may be.
pub const MAX_DEPTH: usize = 8;
/// How many bytes the name of a control group may have.
pub const MAX_NAME: usize = 127;

/// Why a text or a list is no description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// The protocol is unknown.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Not a protocol, an address and a port.
    #[error("{0:?} is not a protocol, an address and a port; write tcp:127.0.0.1:8080, udp:[::1]:53 or tcp:*:80")]
    Listen(String),
    /// Port 0, which no bound socket has.
    #[error("{0:?}: port 0 cannot be described; ports go from 1 to 65535")]
    Zero(String),
    /// Nothing to listen on.
    #[error("a description needs at least one address to listen on, such as tcp:127.0.0.1:8080")]
    Empty,
    /// Not a name of a unit.
    #[error("{0:?} is not the name of a unit; write it like nginx.service")]
    Unit(String),
    /// Not a path of a control group.
    #[error(
        "{0:?} is not the path of a control group; write it from the cgroup v2 root, like /system.slice/nginx.service"
    )]
    Cgroup(String),
    /// Deeper than the kernel program looks.
    #[error("control group {0:?} is more than {MAX_DEPTH} levels deep")]
    Deep(String),
    /// A part of the path is longer than the kernel program looks.
    #[error("control group {0:?} has a name of more than {MAX_NAME} bytes")]
    LongName(String),
    /// Not the name of a user.
    #[error("{0:?} is not the name or number of a user")]
    User(String),
}
