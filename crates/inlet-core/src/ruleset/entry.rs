//! How a ruleset stores its rules: an address and the number of a shape, compact enough for millions of rules.
//!
//! A shape is everything of a rule except its local prefix. Rules are many and shapes are few. An IPv4 rule takes 8
//! bytes, an IPv6 rule 32. Both sort as integers: by address, then the shorter prefix first, then by shape.

use std::hash::{Hash, Hasher};

use crate::rule::{IfaceId, Mark, Match, PortRange, Prefix, Protocol, Rule, Verdict};

/// Everything of a rule except its local prefix. The order of the fields is the canonical order of the rules of one
/// prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) protocol: Protocol,
    pub(crate) ports: PortRange,
    pub(crate) source: Option<Prefix>,
    pub(crate) iface: Option<IfaceId>,
    pub(crate) mark: Option<Mark>,
    pub(crate) verdict: Verdict,
}

impl Hash for Shape {
    /// Hashes one number for nearly all shapes, those without conditions. Every rule of a file is hashed.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { protocol, ports, source, iface, mark, verdict } = self;
        let verdict = match verdict {
            Verdict::Pass => 0,
            Verdict::Refuse => 1,
            Verdict::Service(id) => 2 + u64::from(id.get()),
        };
        let [first, last] = [ports.first(), ports.last()].map(u64::from);
        state.write_u64(verdict << 33 | first << 17 | last << 1 | u64::from(*protocol == Protocol::Udp));
        if !self.is_unconditional() {
            (source, iface, mark).hash(state);
        }
    }
}

impl Shape {
    pub(crate) fn of(rule: &Rule) -> Self {
        let Match { protocol, ports, source, iface, mark, .. } = rule.canonical().matching;
        Self { protocol, ports, source, iface, mark, verdict: rule.verdict }
    }

    pub(crate) fn rule(&self, local: Prefix) -> Rule {
        let Self { protocol, ports, source, iface, mark, verdict } = *self;
        Rule { matching: Match { protocol, local, ports, source, iface, mark }, verdict }
    }

    /// Whether prefix, protocol and ports alone decide.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.source.is_none() && self.iface.is_none() && self.mark.is_none()
    }

    /// Whether two rules of one prefix with these shapes can match one packet with equal rank.
    pub(crate) fn ties_with(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.ports.width() == other.ports.width()
            && self.ports.overlaps(other.ports)
            && self.source == other.source
            && self.iface == other.iface
            && tie(self.mark, other.mark)
    }

    /// Whether both match the same packets.
    pub(crate) fn same_match(&self, other: &Self) -> bool {
        self.ties_with(other) && self.ports == other.ports && self.mark == other.mark
    }
}

/// Whether one packet can match both marks with equal rank.
fn tie(one: Option<Mark>, other: Option<Mark>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.bits() == other.bits() && one.intersection(other).is_some(),
        (one, other) => one == other,
    }
}

/// The number of a shape in its ruleset. The bits that an entry has left beside the address limit it.
pub(crate) type ShapeId = u32;

/// How many shapes a ruleset can have.
pub(crate) const MAX_SHAPES: usize = 1 << 24;

/// A rule as a sortable number.
pub(crate) trait Entry: Copy + Ord {
    /// A rule of `local`, which is of the family of this entry.
    fn new(local: Prefix, shape: ShapeId) -> Self;
    /// The local prefix.
    fn local(self) -> Prefix;
    /// The address and the length of the local prefix.
    fn local_bits(self) -> (u128, u8);
    /// The shape.
    fn shape(self) -> ShapeId;
    /// Whether both have the same local prefix.
    fn same_local(self, other: Self) -> bool;

    fn with_shape(self, shape: ShapeId) -> Self {
        Self::new(self.local(), shape)
    }
}

/// An IPv4 rule: address (32 bits), length (6 bits), shape (26 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry4(pub(crate) u64);

impl Entry4 {
    const SHAPE_BITS: u32 = 26;

    pub(crate) fn addr(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn len(self) -> u8 {
        (self.0 >> Self::SHAPE_BITS & 0x3f) as u8
    }
}

impl Entry for Entry4 {
    fn new(local: Prefix, shape: ShapeId) -> Self {
        let net = local.net4();
        let len = u64::from(net.prefix_len());
        Self(u64::from(net.addr().to_bits()) << 32 | len << Self::SHAPE_BITS | u64::from(shape))
    }

    fn local(self) -> Prefix {
        Prefix::v4(self.addr(), self.len())
    }

    fn local_bits(self) -> (u128, u8) {
        (self.addr().into(), self.len())
    }

    fn shape(self) -> ShapeId {
        self.0 as u32 & ((1 << Self::SHAPE_BITS) - 1)
    }

    fn same_local(self, other: Self) -> bool {
        self.0 >> Self::SHAPE_BITS == other.0 >> Self::SHAPE_BITS
    }

    fn with_shape(self, shape: ShapeId) -> Self {
        Self(self.0 >> Self::SHAPE_BITS << Self::SHAPE_BITS | u64::from(shape))
    }
}

/// An IPv6 rule: address, then length (8 bits) and shape (24 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry6 {
    pub(crate) addr: u128,
    pub(crate) tail: u32,
}

impl Entry6 {
    const SHAPE_BITS: u32 = 24;

    pub(crate) fn len(self) -> u8 {
        (self.tail >> Self::SHAPE_BITS) as u8
    }
}

impl Entry for Entry6 {
    fn new(local: Prefix, shape: ShapeId) -> Self {
        let net = local.net6();
        Self { addr: net.addr().to_bits(), tail: u32::from(net.prefix_len()) << Self::SHAPE_BITS | shape }
    }

    fn local(self) -> Prefix {
        Prefix::v6(self.addr, self.len())
    }

    fn local_bits(self) -> (u128, u8) {
        (self.addr, self.len())
    }

    fn shape(self) -> ShapeId {
        self.tail & ((1 << Self::SHAPE_BITS) - 1)
    }

    fn same_local(self, other: Self) -> bool {
        self.addr == other.addr && self.len() == other.len()
    }

    fn with_shape(self, shape: ShapeId) -> Self {
        Self { addr: self.addr, tail: self.tail >> Self::SHAPE_BITS << Self::SHAPE_BITS | shape }
    }
}
