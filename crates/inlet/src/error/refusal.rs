//! Why a socket is not adopted.

use std::fmt;

use rustix::io::Errno;

/// A socket that is not adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is: its number, with the local address where it has one.
    pub what: String,
    /// Why.
    pub reason: Refusal,
}

/// Why a socket does not get into a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a socket at all.
    NotASocket,
    /// A TCP socket that does not listen.
    NotListening,
    /// A connected socket.
    Connected,
    /// A socket that is not bound to a port.
    NotBound,
    /// Multipath TCP, which the kernel does not take into the map of sockets.
    Mptcp,
    /// Of another network namespace: its handshakes would hang.
    OtherNamespace,
    /// A Unix socket.
    Unix,
    /// A raw socket.
    Raw,
    /// Of another kind.
    OtherKind,
    /// It could be adopted, but not with the addresses asked for.
    NotAsked,
    /// It serves another service already.
    Elsewhere,
    /// The service, or the instance, has as many sockets as fit.
    Full,
    /// The kernel does not say what it is.
    Unknown(Errno),
    /// The kernel does not take it into the map of sockets.
    NotTaken(Errno),
}

impl Refusal {
    /// The next step, when there is one.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Mptcp => Some(
                "let it have plain TCP, and start it again: inlet service set SERVICE --no-mptcp, with a unit, cgroup or \
                 user; or for a Go program GODEBUG=multipathtcp=0; or for all: sysctl -w net.mptcp.enabled=0",
            ),
            Self::OtherNamespace => {
                Some("name that one with --netns; or narrow the description by unit, cgroup or user")
            }
            Self::Elsewhere => Some("inlet unregister SERVICE"),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotASocket => "not a socket",
            Self::NotListening => "not listening",
            Self::Connected => "connected",
            Self::NotBound => "not bound to a port",
            Self::Mptcp => "multipath TCP, which the kernel does not steer",
            Self::OtherNamespace => "of another network namespace",
            Self::Unix => "a unix socket",
            Self::Raw => "a raw socket",
            Self::OtherKind => "neither TCP nor UDP",
            Self::NotAsked => "not one of those given with --listen",
            Self::Elsewhere => "it serves another service, where it was registered",
            Self::Full => "no room is left for it",
            Self::Unknown(errno) => return write!(f, "{errno}"),
            Self::NotTaken(Errno::BUSY) => {
                "the kernel does not take it (EBUSY): another map has it, such as that of a SO_REUSEPORT program"
            }
            Self::NotTaken(errno) => return write!(f, "the kernel does not take it: {errno}"),
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}
