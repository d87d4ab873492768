//! The specification: which rule decides about a packet.

use std::net::SocketAddr;

use crate::{Precedence, Protocol, Rule, Ruleset};

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

/// The rule that decides about the packet; `None` when no rule matches and the kernel's ordinary lookup goes on.
///
/// Slow and obvious on purpose: everything fast is tested against it. Two rules that match one packet never tie, because
/// a ruleset with such a pair cannot be built.
pub fn lookup(ruleset: &Ruleset, packet: &Packet) -> Option<Rule> {
    ruleset
        .rules()
        .filter(|rule| rule.matching.holds(packet, rule.matching.iface.map(|id| ruleset.interface(id).index)))
        .min_by_key(|rule| Precedence::of(&rule.matching))
}
