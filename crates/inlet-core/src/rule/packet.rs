//! A packet, as far as rules ask about it.

use std::net::SocketAddr;

use super::Protocol;

/// What the kernel's hook is told of a packet (`struct bpf_sk_lookup`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it goes to.
    pub local: SocketAddr,
    /// Where it comes from; of the same family.
    pub remote: SocketAddr,
    /// The index of the interface on which it came in, 0 when it is not known.
    pub ifindex: u32,
}

impl Packet {
    /// A packet from `remote` to `local` that came in on no interface in particular.
    pub fn new(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { protocol, local, remote, ifindex: 0 }
    }
}
