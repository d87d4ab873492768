//! Whether a port is served in the calling thread's namespace, as the kernel's socket tables say.
//!
//! No event tells that a socket begins to listen, short of a BPF program, and a trial connection would be counted by the
//! server. So the table is read again at short intervals, with a bound.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use crate::error::{Context, Result};

/// Between two looks at the table.
pub(crate) const INTERVAL: Duration = Duration::from_millis(5);

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP: a socket that listens.
    Tcp,
    /// UDP: a socket that is bound and not connected.
    Udp,
}

impl Proto {
    /// The tables for v4 and v6, and the state of a socket that takes newcomers: TCP_LISTEN, or TCP_CLOSE for UDP.
    fn tables(self) -> ([&'static str; 2], &'static str) {
        match self {
            Proto::Tcp => (["tcp", "tcp6"], "0A"),
            Proto::Udp => (["udp", "udp6"], "07"),
        }
    }
}

/// Waits until a socket in this thread's namespace serves `address`: bound to it, or to any address with its port.
pub fn wait_listening(proto: Proto, address: SocketAddr, timeout: Duration) -> Result<()> {
    let until = Instant::now() + timeout;
    while !is_listening(proto, address)? {
        if Instant::now() >= until {
            return Err(io::Error::from(io::ErrorKind::TimedOut)).context("wait for", address);
        }
        thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Whether a socket in this thread's namespace serves `address`: bound to it, or to any address with its port.
pub fn is_listening(proto: Proto, address: SocketAddr) -> Result<bool> {
    let (tables, state) = proto.tables();
    for table in tables {
        let path = format!("/proc/thread-self/net/{table}");
        let text = match fs::read_to_string(&path) {
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.context("read", path)?,
        };
        if text.lines().skip(1).any(|row| serves(row, state, address)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A row is "  0: 0100007F:0035 00000000:0000 0A ...": number, local, remote, state.
fn serves(row: &str, state: &str, wanted: SocketAddr) -> bool {
    let fields: Vec<&str> = row.split_ascii_whitespace().take(4).collect();
    let [_, local, _, row_state] = fields[..] else {
        return false;
    };
    row_state == state
        && decode(local).is_some_and(|bound| {
            bound.port() == wanted.port() && (bound.ip().is_unspecified() || bound.ip() == wanted.ip())
        })
}

/// Addresses are printed as 32-bit words in host order, ports as numbers.
fn decode(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::new();
    for word in words.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok()?.into(),
        16 => <[u8; 16]>::try_from(octets).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// A duration as poll(2) takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
