//! Leaves: what a search ends in.

use crate::{OnMissing, ServiceId, Services, Verdict};

/// What a search by port, source or interface found: 3 bits of kind, 29 bits of number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaf(pub u32);

/// What the program does with a packet, before any socket is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No rule matches: the kernel's ordinary lookup decides.
    Miss,
    /// A rule says that the kernel's ordinary lookup decides.
    Pass,
    /// A rule refuses.
    Refuse,
    /// A socket of this service receives; without one, the policy decides.
    Service(ServiceId, OnMissing),
}

impl Leaf {
    const KIND_SHIFT: u32 = 29;
    /// No rule: the next shorter prefix is asked.
    pub const MISS: Self = Self(0);
    /// [`Outcome::Pass`].
    pub const PASS: Self = Self(1 << Self::KIND_SHIFT);
    /// [`Outcome::Refuse`].
    pub const REFUSE: Self = Self(2 << Self::KIND_SHIFT);
    /// Kind: the service of this number, with [`OnMissing::Refuse`].
    pub(super) const SERVICE_OR_REFUSE: u32 = 3;
    /// Kind: the service of this number, with [`OnMissing::Pass`].
    pub(super) const SERVICE_OR_PASS: u32 = 4;
    /// Kind: search the source address; the number is the place of a cell with the entry of that search.
    pub(super) const BY_SOURCE: u32 = 5;
    /// Kind: search the interface likewise.
    pub(super) const BY_IFACE: u32 = 6;

    pub(super) fn new(kind: u32, number: u32) -> Self {
        Self(kind << Self::KIND_SHIFT | number)
    }

    pub(super) fn kind(self) -> u32 {
        self.0 >> Self::KIND_SHIFT
    }

    /// The bit in which a range of ports keeps its protocol; numbers are below it.
    pub(super) const UDP: u32 = 1 << 28;

    /// The leaf as a range of ports has it: with the bit of the protocol.
    pub(super) fn of_protocol(self, udp: u32) -> Self {
        Self(self.0 | (udp * Self::UDP))
    }

    /// The leaf of a range of ports, if it is for this protocol.
    pub(super) fn for_protocol(self, udp: u32) -> Option<Self> {
        (self.0 & Self::UDP == udp * Self::UDP).then_some(Self(self.0 & !Self::UDP))
    }

    pub(super) fn number(self) -> u32 {
        self.0 & ((1 << Self::KIND_SHIFT) - 1)
    }

    /// The leaf of a verdict. A service that is not in `services` is as one without a live socket: refused.
    pub(super) fn of(verdict: Verdict, services: &Services) -> Self {
        match verdict {
            Verdict::Pass => Self::PASS,
            Verdict::Refuse => Self::REFUSE,
            Verdict::Service(id) => match services.get(id).map(|service| service.on_missing) {
                Some(OnMissing::Pass) => Self::new(Self::SERVICE_OR_PASS, id.get().into()),
                Some(OnMissing::Refuse) | None => Self::new(Self::SERVICE_OR_REFUSE, id.get().into()),
            },
        }
    }

    /// What the program does; `None` for a leaf that needs a further search, and for numbers that cannot be.
    pub(super) fn outcome(self) -> Option<Outcome> {
        let service = || u16::try_from(self.number()).ok().and_then(ServiceId::new);
        match self.kind() {
            0 => Some(Outcome::Miss),
            1 => Some(Outcome::Pass),
            2 => Some(Outcome::Refuse),
            Self::SERVICE_OR_REFUSE => service().map(|id| Outcome::Service(id, OnMissing::Refuse)),
            Self::SERVICE_OR_PASS => service().map(|id| Outcome::Service(id, OnMissing::Pass)),
            _ => None,
        }
    }
}
