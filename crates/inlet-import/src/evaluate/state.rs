//! What a packet carries with it through the chains, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::firewall::RuleId;

/// The socket that a packet got: an address, if one was named, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) addr: Option<IpAddr>,
    pub(crate) port: u16,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    /// A socket gets it.
    To(Target),
    /// The ordinary lookup decides.
    Pass,
    /// It is dropped or rejected.
    Refuse,
    /// A rule that cannot be read may have given it to some socket.
    Odd,
}

/// A mark, of which some bits may still be those that the packet came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    /// The bits that nobody has set.
    pub(crate) fresh: u32,
    /// All others.
    pub(crate) bits: u32,
}

impl Mark {
    /// As it comes in.
    pub(crate) const FRESH: Self = Self { fresh: u32::MAX, bits: 0 };
    /// As new connections have it.
    pub(crate) const ZERO: Self = Self { fresh: 0, bits: 0 };

    pub(crate) fn set(self, keep: u32, flip: u32) -> Self {
        let fresh = self.fresh & keep;
        // A fresh bit counts as zero, and is known once it is flipped.
        Self { fresh: fresh & !flip, bits: ((self.bits & keep) ^ flip) & !(fresh & !flip) }
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    pub(crate) mark: Mark,
    pub(crate) conn: Mark,
    pub(crate) untracked: bool,
    /// The bits of its mark that a test has asked for though nobody had set them.
    pub(crate) assumed: u32,
    /// Whether the rule at hand has changed some of these.
    pub(crate) changed: bool,
    /// Its mark before the rule that gave it a socket: what that rule does to it goes with the rule.
    pub(crate) before: Mark,
    /// The socket that it has, and the rule that gave it; no target when the rule cannot be read.
    pub(crate) steered: Option<(Option<Target>, RuleId)>,
}

impl State {
    pub(crate) const NEW: Self = Self {
        mark: Mark::FRESH,
        conn: Mark::ZERO,
        untracked: false,
        assumed: 0,
        changed: false,
        before: Mark::ZERO,
        steered: None,
    };

    /// The mark that the packet has in the end, without the rules that give sockets.
    pub(crate) fn last_mark(&self) -> Mark {
        if self.steered.is_some() { self.before } else { self.mark }
    }
}

/// How a packet leaves a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Exit {
    /// At the end, or by `return`, which a rule may have said.
    Return(Option<RuleId>),
    Accept(RuleId),
    Refuse(RuleId),
}

/// What can become of the packets of one area.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// Each with the rules that say so.
    pub(crate) verdicts: BTreeMap<Verdict, BTreeSet<RuleId>>,
    /// The tests whose answer depends on what is not known of the area.
    pub(crate) asked: BTreeSet<usize>,
    /// The rules with tests that nothing can answer, and why.
    pub(crate) doubts: BTreeSet<(RuleId, String)>,
    /// Whether not all ways were gone, so that nothing is known.
    pub(crate) gave_up: bool,
}
