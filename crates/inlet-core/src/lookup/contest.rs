//! Every rule for the address and port of a packet, in match order, and whether it wins. [`lookup`] gives only the
//! winner; the tests check that both agree.
//!
//! [`lookup`]: crate::lookup()

use crate::rule::{Criterion, Packet, Precedence, Rule};
use crate::ruleset::Ruleset;

/// A rule for the protocol, address and port of a packet, and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The rule.
    pub rule: Rule,
    /// Whether it wins, and if not, why.
    pub standing: Standing,
}

/// Whether a rule wins among all rules for the address and port of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The rule decides.
    Wins,
    /// The rule matches, but the winner is more specific in this.
    Beaten(Criterion),
    /// The source of the packet does not match.
    OtherSource,
    /// The packet came in on another interface.
    OtherInterface,
    /// The packet has another mark, or one that is not known.
    OtherMark,
}

impl Standing {
    /// Whether the rule matches the packet.
    pub fn matches(self) -> bool {
        matches!(self, Self::Wins | Self::Beaten(_))
    }
}

/// All rules for the protocol, address and port of the packet, in match order.
pub fn contest(ruleset: &Ruleset, packet: &Packet) -> Vec<Contender> {
    let mut found: Vec<Contender> = ruleset.rules().filter_map(|rule| enter(ruleset, packet, rule)).collect();
    found.sort_by_key(|contender| Precedence::of(&contender.rule.matching));
    let winner = found.iter().find(|contender| contender.standing.matches()).map(|contender| contender.rule.matching);
    for contender in found.iter_mut().filter(|contender| contender.standing.matches()) {
        let beaten = winner.and_then(|winner| Criterion::between(&winner, &contender.rule.matching));
        contender.standing = beaten.map_or(Standing::Wins, Standing::Beaten);
    }
    found
}

/// The rule, when it is for the address and port. It counts as the winner until the other rules are known.
fn enter(ruleset: &Ruleset, packet: &Packet, rule: Rule) -> Option<Contender> {
    let matching = &rule.matching;
    let is_for = matching.protocol == packet.protocol
        && matching.local.contains(packet.local.ip())
        && matching.ports.contains(packet.local.port());
    let from = matching.source.is_none_or(|source| source.contains(packet.remote.ip()));
    let on = |index: u32| index != 0 && index == packet.ifindex;
    let standing = match () {
        () if !from => Standing::OtherSource,
        () if !matching.iface.is_none_or(|id| on(ruleset.interface(id).index)) => Standing::OtherInterface,
        () if !matching.mark.is_none_or(|mark| packet.has(mark)) => Standing::OtherMark,
        () => Standing::Wins,
    };
    is_for.then_some(Contender { rule, standing })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::with_packets;
    use crate::lookup::lookup;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_first_that_matches_is_what_lookup_gives((ruleset, packets) in with_packets(30, 40)) {
            for packet in &packets {
                let all = contest(&ruleset, packet);
                let winners: Vec<Rule> =
                    all.iter().filter(|it| it.standing == Standing::Wins).map(|it| it.rule).collect();
                prop_assert_eq!(winners.first().copied(), lookup(&ruleset, packet));
                prop_assert!(winners.len() < 2);
                let matching = all.iter().find(|it| it.standing.matches()).map(|it| it.rule);
                prop_assert_eq!(matching, winners.first().copied());
                // Without the rules before it, each rule that matches would win. No other rule ever would.
                let holds = |rule: &Rule| {
                    let index = rule.matching.iface.map(|id| ruleset.interface(id).index);
                    rule.matching.holds(packet, index)
                };
                let mut order: Vec<Rule> = ruleset.match_order_of(holds);
                order.retain(holds);
                let matching_rules: Vec<Rule> = all.iter().filter(|it| it.standing.matches()).map(|it| it.rule).collect();
                prop_assert_eq!(matching_rules, order);
            }
        }
    }
}
