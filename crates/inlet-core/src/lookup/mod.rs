//! The specification: which rule decides about a packet.

mod contest;

use crate::rule::{Packet, Precedence, Rule};
use crate::ruleset::Ruleset;

pub use contest::{Contender, Standing, contest};

/// The rule that decides about the packet. `None`: no rule matches, and the kernel's ordinary lookup decides.
///
/// This is slow and obvious on purpose: everything fast is tested against it. Two rules never tie on a packet, because
/// a ruleset with such rules cannot be built.
pub fn lookup(ruleset: &Ruleset, packet: &Packet) -> Option<Rule> {
    ruleset
        .rules()
        .filter(|rule| rule.matching.holds(packet, rule.matching.iface.map(|id| ruleset.interface(id).index)))
        .min_by_key(|rule| Precedence::of(&rule.matching))
}
