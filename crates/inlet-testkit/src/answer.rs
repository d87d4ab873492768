//! What a dialer met, as a value that tests compare; and the line by which an echo server says who it is.

use std::io;
use std::net::SocketAddr;

/// What came of a dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An echo server answered.
    From {
        /// The server's name.
        name: String,
        /// The address and port that the server was reached at: getsockname() of the connection, or the datagram's
        /// original destination.
        local: SocketAddr,
        /// The client as the server sees it.
        peer: SocketAddr,
        /// Where the answer came from as the client sees it. Over UDP the port is the one the server is bound to.
        sender: SocketAddr,
    },
    /// A TCP reset in answer to the SYN, or ICMP port unreachable.
    Refused,
    /// Nothing came within the time given.
    TimedOut,
    /// Any other error; `InvalidData` is an answer that is not an echo server's.
    Other(io::ErrorKind),
}

impl Answer {
    /// The name of the server that answered.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Answer::From { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The address that the server was reached at.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Answer::From { local, .. } => Some(*local),
            _ => None,
        }
    }

    pub(crate) fn parse(line: &[u8], sender: SocketAddr) -> io::Result<Answer> {
        Self::fields(line, sender).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn fields(line: &[u8], sender: SocketAddr) -> Option<Answer> {
        let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let answer = Answer::From {
            name: fields.next()?.to_owned(),
            local: fields.next()?.parse().ok()?,
            peer: fields.next()?.parse().ok()?,
            sender,
        };
        fields.next().is_none().then_some(answer)
    }
}

impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Answer {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Answer::Refused,
            io::ErrorKind::TimedOut => Answer::TimedOut,
            other => Answer::Other(other),
        }
    }
}

/// The line an echo server answers with.
pub(crate) fn line(name: &str, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    format!("{name} {local} {peer}\n").into_bytes()
}
