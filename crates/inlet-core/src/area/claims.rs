//! What a socket and a service receive under the rules in force: their own packets, except those that other rules take.
//!
//! The answer is a list of claims, each an area with exceptions. A packet is received when one of the claims holds it.
//! The tests compare that with [`lookup`](crate::lookup()).

use super::{Area, Bound};
use crate::rule::{Packet, PortRange, Precedence, Prefix, Rule, ServiceId, Verdict};
use crate::ruleset::Ruleset;

/// An area of packets with exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The packets.
    pub area: Area,
    /// The parts that others take; each lies inside `area`. At most [`EXCEPTIONS`] are listed.
    pub except: Vec<Area>,
    /// How many more parts others take.
    pub more: usize,
    /// The rule that gives these packets. `None`: the socket is bound to them.
    pub rule: Option<Rule>,
}

impl Claim {
    /// The claim; `None` when others take all of it. Exceptions inside other exceptions are dropped, unless there are
    /// too many to compare.
    fn new(area: Area, takers: impl Iterator<Item = Area>, rule: Option<Rule>) -> Option<Self> {
        let mut except: Vec<Area> = takers.filter_map(|taker| area.intersection(&taker)).collect();
        except.sort_by_key(|it| (it.local, it.ports, it.source, it.ifindex, it.mark));
        except.dedup();
        if except.len() <= EXCEPTIONS {
            let all = except.clone();
            except.retain(|one| !all.iter().any(|other| other != one && other.covers(one)));
        }
        if area.is_covered_by(&except) {
            return None;
        }
        let more = except.len().saturating_sub(EXCEPTIONS);
        except.truncate(EXCEPTIONS);
        Some(Self { area, except, more, rule })
    }

    /// Whether any packet to this prefix is in the claim.
    pub fn reaches(&self, local: &Prefix) -> bool {
        let part = self.area.intersection(&Area { local: *local, ..self.area });
        part.is_some_and(|part| !part.is_covered_by(&self.except))
    }

    /// Whether the packet is in the claim. Only right when all exceptions are listed.
    pub fn holds(&self, packet: &Packet) -> bool {
        self.area.holds(packet) && !self.except.iter().any(|except| except.holds(packet))
    }
}

/// How many exceptions a claim lists.
pub const EXCEPTIONS: usize = 1000;

/// What rules give to a service: one claim for each of its rules that can ever match.
pub fn given(ruleset: &Ruleset, service: ServiceId) -> Vec<Claim> {
    let to_it = |rule: &Rule| rule.verdict == Verdict::Service(service);
    let claim = |rule: Rule| {
        let takes = |other: &Rule| !to_it(other) && is_before(other, &rule);
        let takers = areas(ruleset, ruleset.rules_within(rule.matching.local).filter(takes));
        Claim::new(Area::of(ruleset, &rule.matching)?, takers, Some(rule))
    };
    ruleset.match_order_of(to_it).into_iter().filter_map(claim).collect()
}

/// What a socket keeps of the packets that it is bound to.
///
/// `takes` says whether a rule takes packets from the kernel's ordinary lookup. `others` are the other sockets among
/// which that lookup chooses. Packets of which nobody can say which of several sockets gets them are kept by each
/// ([`Rank::may_precede`](super::Rank::may_precede)).
pub fn kept(ruleset: &Ruleset, bound: &Bound, others: &[Bound], takes: impl Fn(&Rule) -> bool) -> Vec<Claim> {
    let own = bound.precedence();
    let is_better = |other: &&Bound| other.precedence() > own && !own.may_precede(&other.precedence());
    let better: Vec<Area> = others.iter().filter(is_better).flat_map(Bound::areas).collect();
    let mut claims: Vec<Claim> = Vec::new();
    for own in bound.areas() {
        let rules: Vec<Rule> = ruleset.rules_for(own.protocol, own.ports).collect();
        let takers = areas(ruleset, rules.iter().filter(|rule| takes(rule)).copied());
        let plain = Claim::new(own, takers.chain(better.iter().copied()), None);
        // A rule that leaves packets to the ordinary lookup takes them from less specific rules.
        for rule in rules.iter().filter(|rule| !takes(rule)) {
            let before = |other: &Rule| takes(other) && is_before(other, rule);
            let takers = areas(ruleset, ruleset.rules_within(rule.matching.local).filter(before));
            let Some(area) = Area::of(ruleset, &rule.matching).and_then(|area| own.intersection(&area)) else {
                continue;
            };
            let claim = Claim::new(area, takers.chain(better.iter().copied()), Some(*rule));
            // Where no other rule matches, the packets are kept anyway.
            claims.extend(claim.filter(|claim| !plain.as_ref().is_some_and(|plain| plain.contains(claim))));
        }
        claims.extend(plain);
    }
    claims.sort_by_key(|claim| (claim.rule.is_some(), claim.area.local));
    claims
}

fn is_before(one: &Rule, other: &Rule) -> bool {
    Precedence::of(&one.matching) < Precedence::of(&other.matching)
}

impl Claim {
    /// Whether this claim holds all packets of the other one.
    fn contains(&self, other: &Self) -> bool {
        let taken = |except: &Area| match except.intersection(&other.area) {
            Some(part) => part.is_covered_by(&other.except),
            None => true,
        };
        self.more == 0 && other.more == 0 && self.area.covers(&other.area) && self.except.iter().all(taken)
    }
}

/// The areas of rules.
fn areas(ruleset: &Ruleset, rules: impl Iterator<Item = Rule>) -> impl Iterator<Item = Area> {
    rules.filter_map(|rule| Area::of(ruleset, &rule.matching))
}

impl Bound {
    /// The packets that it receives when nobody else takes them.
    pub fn areas(&self) -> Vec<Area> {
        let Ok(ports) = PortRange::new(self.addr.port(), self.addr.port()) else { return Vec::new() };
        let ifindex = (self.device != 0).then_some(self.device);
        let area = |local| Area { protocol: self.protocol, local, ports, source: None, ifindex, mark: None };
        self.locals().into_iter().map(area).collect()
    }
}
