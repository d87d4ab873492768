//! Leaves: the results of searches.

use super::{
    LEAF_BOUND_ANSWERS, LEAF_GROUP, LEAF_MISS, LEAF_PASS, LEAF_REFUSE, LEAF_SERVICE_OR_PASS, LEAF_SERVICE_OR_REFUSE,
    LEAF_SHIFT, LEAF_STICKY, RANGE_UDP,
};
use crate::rule::{Answers, MAX_SERVICES, OnMissing, Service, ServiceId, Services, Spread, Sticky, Verdict};

/// The number of a service lies below its other bits, and these below that of the protocol.
const _: () = assert!(
    MAX_SERVICES as u32 <= LEAF_GROUP && (Sticky::MAX as u32) < 1 << (RANGE_UDP - LEAF_STICKY),
    "the parts of a leaf"
);

/// The result of a search by port, source or interface: 3 bits of kind, 29 bits of number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaf(pub u32);

/// What the program does with a packet, before it looks at any socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No rule matches: the kernel's ordinary lookup decides.
    Miss,
    /// A rule says that the kernel's ordinary lookup decides.
    Pass,
    /// A rule refuses.
    Refuse,
    /// A socket of this service receives it. Without a live socket, the policy decides.
    Service(ServiceId, OnMissing),
}

impl Leaf {
    /// No rule matches: the next shorter prefix is looked up.
    pub const MISS: Self = Self(LEAF_MISS << LEAF_SHIFT);
    /// [`Outcome::Pass`].
    pub const PASS: Self = Self(LEAF_PASS << LEAF_SHIFT);
    /// [`Outcome::Refuse`].
    pub const REFUSE: Self = Self(LEAF_REFUSE << LEAF_SHIFT);

    pub(crate) fn new(kind: u32, number: u32) -> Self {
        Self(kind << LEAF_SHIFT | number)
    }

    pub(crate) fn kind(self) -> u32 {
        self.0 >> LEAF_SHIFT
    }

    /// The leaf as a range of ports stores it: with the bit of its protocol.
    pub(crate) fn of_protocol(self, udp: u32) -> Self {
        Self(self.0 | (udp << RANGE_UDP))
    }

    /// The leaf of a range of ports, if the range is for this protocol.
    pub(crate) fn for_protocol(self, udp: u32) -> Option<Self> {
        (self.0 >> RANGE_UDP & 1 == udp).then_some(Self(self.0 & !(1 << RANGE_UDP)))
    }

    pub(crate) fn number(self) -> u32 {
        self.0 & ((1 << LEAF_SHIFT) - 1)
    }

    /// The leaf of a verdict. A service that is not in `services` is refused, like one without a live socket.
    pub(crate) fn of(verdict: Verdict, services: &Services) -> Self {
        match verdict {
            Verdict::Pass => Self::PASS,
            Verdict::Refuse => Self::REFUSE,
            Verdict::Service(id) => Self::of_service(id, services.get(id)),
        }
    }

    fn of_service(id: ServiceId, service: Option<&Service>) -> Self {
        let kind = match service.map(|service| service.on_missing) {
            Some(OnMissing::Pass) => LEAF_SERVICE_OR_PASS,
            Some(OnMissing::Refuse) | None => LEAF_SERVICE_OR_REFUSE,
        };
        let group = if service.is_some_and(|service| service.spread == Spread::Group) { LEAF_GROUP } else { 0 };
        let is_bound = service.is_some_and(|service| service.answers == Some(Answers::Bound));
        let bound = if is_bound { LEAF_BOUND_ANSWERS } else { 0 };
        let sticky = service.map_or(0, |service| u32::from(service.sticky.seconds()) << LEAF_STICKY);
        Self::new(kind, u32::from(id.get()) | group | bound | sticky)
    }

    /// What the program does. `None`: the leaf needs a further search, or its number is not valid.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        let service = || u16::try_from(self.number() & (LEAF_GROUP - 1)).ok().and_then(ServiceId::new);
        match self.kind() {
            LEAF_MISS => Some(Outcome::Miss),
            LEAF_PASS => Some(Outcome::Pass),
            LEAF_REFUSE => Some(Outcome::Refuse),
            LEAF_SERVICE_OR_REFUSE => service().map(|id| Outcome::Service(id, OnMissing::Refuse)),
            LEAF_SERVICE_OR_PASS => service().map(|id| Outcome::Service(id, OnMissing::Pass)),
            _ => None,
        }
    }
}
