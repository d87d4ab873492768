//! The parts of a packet that rules look at.

use std::net::SocketAddr;

use super::{Mark, Protocol};

/// A packet as the kernel's hook gets it (`struct bpf_sk_lookup`), and its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its destination address and port.
    pub local: SocketAddr,
    /// Its source address and port; of the same family as `local`.
    pub remote: SocketAddr,
    /// The kernel's index of the interface on which it came in, 0 when that is unknown.
    pub ifindex: u32,
    /// Its mark; `None` when that is unknown, and then no rule with a mark matches.
    pub mark: Option<u32>,
}

impl Packet {
    /// A packet from `remote` to `local` on an unknown interface, which nobody marked.
    pub fn new(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { protocol, local, remote, ifindex: 0, mark: Some(0) }
    }

    /// Whether its mark is known and matches.
    pub fn has(&self, mark: Mark) -> bool {
        self.mark.is_some_and(|own| mark.matches(own))
    }
}
