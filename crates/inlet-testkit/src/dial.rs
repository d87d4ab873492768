//! How a dialer goes out: its source, its interface, and how long it waits for an answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketType, bind, sockopt};

use crate::listening::timespec;
use crate::raw;
use crate::server::open;

/// Options of [`dial_tcp`](crate::dial_tcp) and [`dial_udp`](crate::dial_udp). The default: the kernel chooses the source,
/// and two seconds without an answer are [`TimedOut`](crate::Answer::TimedOut).
#[derive(Clone, Debug)]
pub struct Dial {
    source: Option<IpAddr>,
    source_port: u16,
    interface: Option<String>,
    timeout: Duration,
    pub(crate) payload: Vec<u8>,
}

impl Default for Dial {
    fn default() -> Dial {
        Dial {
            source: None,
            source_port: 0,
            interface: None,
            timeout: Duration::from_secs(2),
            payload: b"who\n".to_vec(),
        }
    }
}

impl Dial {
    /// The default.
    #[must_use]
    pub fn new() -> Dial {
        Dial::default()
    }

    /// Goes out from this address, which needs not be configured (IP_FREEBIND); AnyIP makes it answerable.
    #[must_use]
    pub fn source(mut self, source: impl Into<IpAddr>) -> Dial {
        self.source = Some(source.into());
        self
    }

    /// Goes out from this port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Dial {
        self.source_port = port;
        self
    }

    /// Goes out by this interface (SO_BINDTODEVICE).
    #[must_use]
    pub fn interface(mut self, name: &str) -> Dial {
        self.interface = Some(name.to_owned());
        self
    }

    /// Waits so long for an answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Dial {
        self.timeout = timeout;
        self
    }

    /// The UDP payload to send. TCP sends none.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Dial {
        self.payload = payload.to_vec();
        self
    }

    /// A socket in the calling thread's namespace, bound as the options say.
    pub(crate) fn socket(&self, kind: SocketType, to: SocketAddr) -> io::Result<OwnedFd> {
        let socket = open(kind, to)?;
        if let Some(name) = &self.interface {
            let (level, option) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
            raw::set_bytes(socket.as_fd(), level, option, name.as_bytes())?;
        }
        if self.source.is_some() || self.source_port != 0 {
            self.bind(&socket, to)?;
        }
        Ok(socket)
    }

    fn bind(&self, socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
        match to {
            SocketAddr::V4(_) => sockopt::set_ip_freebind(socket, true)?,
            SocketAddr::V6(_) => sockopt::set_ipv6_freebind(socket, true)?,
        }
        let any: IpAddr = match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let from = SocketAddr::new(self.source.unwrap_or(any), self.source_port);
        bind(socket, &from)?;
        Ok(())
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.timeout)
    }
}

/// When a dial becomes [`TimedOut`](crate::Answer::TimedOut).
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// Waits for any of `events`, an error or a hangup.
    pub(crate) fn wait(self, socket: &OwnedFd, events: PollFlags) -> io::Result<()> {
        loop {
            let left = self.0.saturating_duration_since(Instant::now());
            match poll(&mut [PollFd::new(socket, events)], Some(&timespec(left))) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
