//! What a socket and a service receive once rules are in force: their own part, less what others take.
//!
//! The answer is a list of claims, each an area without some others. A packet is received when one of the claims holds it;
//! the tests hold that to [`lookup`](crate::lookup()).

use super::{Area, Bound};
use crate::rule::{Packet, PortRange, Precedence, Prefix, Rule, ServiceId, Verdict};
use crate::ruleset::Ruleset;

/// An area of packets without those in other areas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The packets.
    pub area: Area,
    /// Those of them that others take; each lies within `area`. Not more than [`EXCEPTIONS`].
    pub except: Vec<Area>,
    /// How many more areas others take.
    pub more: usize,
    /// The rule by which it is; `None` when it is what the socket is bound to.
    pub rule: Option<Rule>,
}

impl Claim {
    /// The claim, unless others take all of it. Exceptions inside others are dropped, as far as there are not too many.
    fn new(area: Area, takers: impl Iterator<Item = Area>, rule: Option<Rule>) -> Option<Self> {
        let mut except: Vec<Area> = takers.filter_map(|taker| area.intersection(&taker)).collect();
        except.sort_by_key(|it| (it.local, it.ports, it.source, it.ifindex));
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

    /// Whether any packet to this prefix is in it.
    pub fn reaches(&self, local: &Prefix) -> bool {
        let part = self.area.intersection(&Area { local: *local, ..self.area });
        part.is_some_and(|part| !part.is_covered_by(&self.except))
    }

    /// Whether the packet is in it, when all exceptions are listed.
    pub fn holds(&self, packet: &Packet) -> bool {
        self.area.holds(packet) && !self.except.iter().any(|except| except.holds(packet))
    }
}

/// How many exceptions a claim lists.
pub const EXCEPTIONS: usize = 1000;

/// What rules give to a service: for each of its rules that ever matches a claim.
pub fn given(ruleset: &Ruleset, service: ServiceId) -> Vec<Claim> {
    let to_it = |rule: &Rule| rule.verdict == Verdict::Service(service);
    let claim = |rule: Rule| {
        let takes = |other: &Rule| !to_it(other) && is_before(other, &rule);
        let takers = areas(ruleset, ruleset.rules_within(rule.matching.local).filter(takes));
        Claim::new(Area::of(ruleset, &rule.matching)?, takers, Some(rule))
    };
    ruleset.match_order_of(to_it).into_iter().filter_map(claim).collect()
}

/// What a socket keeps of what it is bound to. `takes` says of a rule whether it takes packets from the kernel's ordinary
/// lookup; `others` are the other sockets among which that chooses.
pub fn kept(ruleset: &Ruleset, bound: &Bound, others: &[Bound], takes: impl Fn(&Rule) -> bool) -> Vec<Claim> {
    let better = others.iter().filter(|other| other.precedence() > bound.precedence());
    let better: Vec<Area> = better.flat_map(Bound::areas).collect();
    let mut claims: Vec<Claim> = Vec::new();
    for own in bound.areas() {
        let rules: Vec<Rule> = ruleset.rules_for(own.protocol, own.ports).collect();
        let takers = areas(ruleset, rules.iter().filter(|rule| takes(rule)).copied());
        let plain = Claim::new(own, takers.chain(better.iter().copied()), None);
        // What a rule leaves to the ordinary lookup it has taken from less specific rules that do not.
        for rule in rules.iter().filter(|rule| !takes(rule)) {
            let before = |other: &Rule| takes(other) && is_before(other, rule);
            let takers = areas(ruleset, ruleset.rules_within(rule.matching.local).filter(before));
            let Some(area) = Area::of(ruleset, &rule.matching).and_then(|area| own.intersection(&area)) else {
                continue;
            };
            let claim = Claim::new(area, takers.chain(better.iter().copied()), Some(*rule));
            // Where no other rule matches it is part of what is kept anyway.
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
    /// Whether all of the other claim is in this one.
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
    /// The packets that it receives when nobody else does.
    pub fn areas(&self) -> Vec<Area> {
        let Ok(ports) = PortRange::new(self.addr.port(), self.addr.port()) else { return Vec::new() };
        let ifindex = (self.device != 0).then_some(self.device);
        let area = |local| Area { protocol: self.protocol, local, ports, source: None, ifindex };
        self.locals().into_iter().map(area).collect()
    }
}
