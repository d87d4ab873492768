//! Rules that refuse a source, and the more specific rules that let it in again.
//!
//! "Refuse this source on all ports" does not refuse what a rule for one port, or for a longer local prefix, decides.
//! That is right by precedence, and not what people expect of a block list.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Area;
use crate::rule::{Precedence, Prefix, Protocol, Rule, Verdict};
use crate::ruleset::Ruleset;

/// A rule that decides about packets which rules for their sources would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reopened {
    /// The more specific rule.
    pub by: Rule,
    /// The rules that refuse sources, and some packets of these all the same get to `by`. Never empty.
    pub refusing: Vec<Rule>,
}

/// The rules that open again what rules with a source refuse, in address order. One that names a source as narrow
/// itself is an exception on purpose and is not listed.
pub fn reopened(ruleset: &Ruleset) -> Vec<Reopened> {
    among(ruleset, None)
}

/// The same, but only where one of the two rules is among these.
pub fn reopened_by(ruleset: &Ruleset, new: &HashSet<Rule>) -> Vec<Reopened> {
    among(ruleset, Some(new))
}

/// The rules that refuse sources within one local prefix: all, and those that are new.
#[derive(Default)]
struct Group {
    all: Vec<Rule>,
    new: Vec<Rule>,
}

fn among(ruleset: &Ruleset, new: Option<&HashSet<Rule>>) -> Vec<Reopened> {
    let is_new = |rule: &Rule| new.is_none_or(|new| new.contains(rule));
    let mut groups: BTreeMap<(Prefix, Protocol), Group> = BTreeMap::new();
    for rule in ruleset.rules().filter(refuses_source) {
        let group = groups.entry((rule.matching.local, rule.matching.protocol)).or_default();
        group.all.push(rule);
        group.new.extend(Some(rule).filter(is_new));
    }
    let mut found: Vec<Reopened> = Vec::new();
    for ((local, protocol), group) in groups {
        let lets_in = |rule: &Rule| rule.verdict != Verdict::Refuse && rule.matching.protocol == protocol;
        for by in ruleset.rules_within(local).filter(lets_in) {
            let rules = if is_new(&by) { &group.all } else { &group.new };
            let refusing = rules.iter().filter(|rule| opens(ruleset, &by, rule)).copied();
            match found.iter_mut().find(|known| known.by == by) {
                Some(known) => known.refusing.extend(refusing),
                None => found
                    .extend(Some(Reopened { by, refusing: refusing.collect() }).filter(|it| !it.refusing.is_empty())),
            }
        }
    }
    without_refused(ruleset, found)
}

/// Whether a rule refuses a source.
fn refuses_source(rule: &Rule) -> bool {
    rule.verdict == Verdict::Refuse && rule.matching.source.is_some_and(|source| source.len() > 0)
}

/// Leaves out what other rules refuse before it is opened again.
fn without_refused(ruleset: &Ruleset, mut found: Vec<Reopened>) -> Vec<Reopened> {
    if found.is_empty() {
        return found;
    }
    let mut by_source: HashMap<Option<Prefix>, Vec<Rule>> = HashMap::new();
    for rule in ruleset.rules().filter(|rule| rule.verdict == Verdict::Refuse) {
        by_source.entry(rule.matching.source).or_default().push(rule);
    }
    found.retain_mut(|it| {
        it.refusing.retain(|rule| !is_refused_before(ruleset, &it.by, rule, &by_source));
        !it.refusing.is_empty()
    });
    found
}

/// Whether a rule decides about packets of a source that another rule refuses, without naming a source as narrow.
fn opens(ruleset: &Ruleset, by: &Rule, refusing: &Rule) -> bool {
    let len = |rule: &Rule| rule.matching.source.map_or(0, |source| source.len());
    len(by) < len(refusing)
        && Precedence::of(&by.matching) < Precedence::of(&refusing.matching)
        && shared(ruleset, by, refusing).is_some()
}

fn shared(ruleset: &Ruleset, one: &Rule, other: &Rule) -> Option<Area> {
    Area::of(ruleset, &one.matching)?.intersection(&Area::of(ruleset, &other.matching)?)
}

/// Whether rules that refuse the source, or a wider one, are before the more specific rule.
fn is_refused_before(
    ruleset: &Ruleset,
    by: &Rule,
    refusing: &Rule,
    by_source: &HashMap<Option<Prefix>, Vec<Rule>>,
) -> bool {
    let Some(opened) = shared(ruleset, by, refusing) else { return true };
    let source = refusing.matching.source.map(|source| (source.addr(), source.len()));
    let wider = source.into_iter().flat_map(|(addr, len)| (0..=len).map(move |len| Prefix::holding(addr, len)));
    let before = wider.chain([None]).filter_map(|source| by_source.get(&source)).flatten();
    let before = before.filter(|rule| Precedence::of(&rule.matching) < Precedence::of(&by.matching));
    let parts: Vec<Area> = before.filter_map(|rule| Area::of(ruleset, &rule.matching)).collect();
    opened.is_covered_by(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Match;
    use crate::ruleset::Builder;

    /// Each rule: local prefix, ports, source, verdict.
    fn found(rules: &[(&str, &str, &str, Verdict)]) -> Vec<String> {
        let mut builder = Builder::new();
        for (local, ports, source, verdict) in rules {
            let source = (!source.is_empty()).then(|| source.parse().unwrap());
            let (local, ports) = (local.parse().unwrap(), ports.parse().unwrap());
            let matching = Match { protocol: Protocol::Tcp, local, ports, source, iface: None, mark: None };
            builder.push(&Rule { matching, verdict: *verdict }).unwrap();
        }
        let ruleset = builder.finish().unwrap();
        let text = |it: &Reopened| {
            let refusing: Vec<String> = it.refusing.iter().map(|rule| ruleset.named(rule).to_string()).collect();
            format!("{} | {}", ruleset.named(&it.by), refusing.join(" | "))
        };
        reopened(&ruleset).iter().map(text).collect()
    }

    const BLOCK: (&str, &str, &str, Verdict) = ("192.0.2.0/24", "any", "203.0.113.0/24", Verdict::Refuse);

    #[test]
    fn a_narrower_port_or_a_longer_prefix_opens_again() {
        let port = ("192.0.2.0/24", "22", "", Verdict::Pass);
        let host = ("192.0.2.7", "any", "", Verdict::Pass);
        let block = "tcp 192.0.2.0/24 any from 203.0.113.0/24 -> refuse";
        assert_eq!(found(&[BLOCK, port]), [format!("tcp 192.0.2.0/24 22 -> pass | {block}")]);
        assert_eq!(found(&[BLOCK, host]), [format!("tcp 192.0.2.7/32 any -> pass | {block}")]);
        assert_eq!(found(&[BLOCK, ("192.0.2.0/24", "any", "", Verdict::Pass)]), [""; 0]);
        assert_eq!(found(&[("192.0.2.0/24", "any", "", Verdict::Refuse), port]), [""; 0], "that is what a pass is for");
    }

    #[test]
    fn an_exception_on_purpose_is_none() {
        let narrower = ("192.0.2.0/24", "22", "203.0.113.7", Verdict::Pass);
        assert_eq!(found(&[BLOCK, narrower]), [""; 0]);
        let port = ("192.0.2.0/24", "22", "", Verdict::Pass);
        let same_ports = ("192.0.2.0/24", "22", "203.0.113.0/24", Verdict::Refuse);
        let wider = ("192.0.2.0/24", "22", "203.0.0.0/16", Verdict::Refuse);
        assert_eq!(found(&[BLOCK, port, same_ports]), [""; 0]);
        assert_eq!(found(&[BLOCK, port, wider]), [""; 0]);
        let a_part = ("192.0.2.0/24", "22", "203.0.113.0/25", Verdict::Refuse);
        assert_eq!(found(&[BLOCK, port, a_part]).len(), 1);
    }
}
