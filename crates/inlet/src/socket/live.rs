//! A live socket, with what the kernel and /proc know of it.

use super::owner::Owner;
use inlet_core::Endpoint;

/// A live socket of a service.
#[derive(Clone, Debug)]
pub struct SocketState {
    /// The kernel's number of the socket, never used again (`SO_COOKIE`).
    pub cookie: u64,
    /// Its protocol and local address; `None` when the kernel does not list it to us.
    pub local: Option<Endpoint>,
    /// Whether it can receive: a TCP socket that listens, a UDP socket that is not connected.
    pub receiving: bool,
    /// Whether it serves IPv4.
    pub v4: bool,
    /// Whether it serves IPv6.
    pub v6: bool,
    /// The number of the user whose it is; `None` when the kernel does not list it to us.
    pub user: Option<u32>,
    /// The processes that have it open, as far as we may see them.
    pub owners: Vec<Owner>,
}

/// Whether a service had a socket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It was adopted before.
    Before,
    /// It is new.
    Now,
}
