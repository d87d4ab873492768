//! Which of two rules that match the same packet wins.

use std::cmp::Reverse;

use crate::Match;

/// The rank of a match among all that match one packet; the lowest rank wins, and the first difference decides:
/// longer local prefix, narrower port range, longer source prefix, an interface given before none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    local: Reverse<u8>,
    width: u16,
    source: Reverse<u8>,
    iface: Reverse<bool>,
}

impl Precedence {
    /// The rank of a match.
    pub fn of(matching: &Match) -> Self {
        Self {
            local: Reverse(matching.local.len()),
            width: matching.ports.width(),
            source: Reverse(matching.source.map_or(0, |source| source.len())),
            iface: Reverse(matching.iface.is_some()),
        }
    }
}
