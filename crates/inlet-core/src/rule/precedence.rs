//! Which of two rules that match the same packet wins.

use std::cmp::Reverse;
use std::fmt;

use super::Match;

/// The rank of a match among all that match one packet. The lowest rank wins.
///
/// The first difference decides: longer local prefix, narrower port range, longer source prefix, an interface before
/// none, more bits of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    local: Reverse<u8>,
    width: u16,
    source: Reverse<u8>,
    iface: Reverse<bool>,
    mark: Reverse<u8>,
}

/// Why a rule is more specific than another one that matches the same packet: the first difference between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criterion {
    /// Its local prefix is longer.
    LocalPrefix,
    /// Its port range is narrower.
    Ports,
    /// Its source prefix is longer, or the other has none.
    Source,
    /// It names an interface, and the other does not.
    Interface,
    /// More bits of its mark count, or the other has no mark.
    Mark,
}

impl Precedence {
    /// The rank of a match.
    pub fn of(matching: &Match) -> Self {
        Self {
            local: Reverse(matching.local.len()),
            width: matching.ports.width(),
            source: Reverse(matching.source.map_or(0, |source| source.len())),
            iface: Reverse(matching.iface.is_some()),
            mark: Reverse(matching.mark.map_or(0, |mark| mark.bits())),
        }
    }
}

impl Criterion {
    /// Why `winner` comes before `other`; `None` when it does not.
    pub fn between(winner: &Match, other: &Match) -> Option<Self> {
        let (winner, other) = (Precedence::of(winner), Precedence::of(other));
        if winner >= other {
            return None;
        }
        Some(match () {
            () if winner.local != other.local => Self::LocalPrefix,
            () if winner.width != other.width => Self::Ports,
            () if winner.source != other.source => Self::Source,
            () if winner.iface != other.iface => Self::Interface,
            () => Self::Mark,
        })
    }

    /// A name for programs: `local_prefix`, `ports`, `source`, `interface` or `mark`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalPrefix => "local_prefix",
            Self::Ports => "ports",
            Self::Source => "source",
            Self::Interface => "interface",
            Self::Mark => "mark",
        }
    }
}

impl fmt::Display for Criterion {
    /// What the winner has: `a longer local prefix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalPrefix => "a longer local prefix",
            Self::Ports => "a narrower port range",
            Self::Source => "a longer source prefix",
            Self::Interface => "an interface",
            Self::Mark => "more bits of the mark",
        })
    }
}
