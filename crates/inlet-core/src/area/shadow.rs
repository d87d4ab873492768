//! Rules that never decide, because more specific rules take all their packets.

use super::Area;
use crate::rule::{Precedence, Rule};
use crate::ruleset::{Entry, Entry4, Entry6, Ruleset};

/// The rules that decide about no packet, in address order.
///
/// This is exact: for every other rule there is a packet that it decides about. A rule whose interface does not exist
/// matches nothing for that reason and is not listed.
pub fn never_matching(ruleset: &Ruleset) -> Vec<Rule> {
    let mut found = Vec::new();
    in_family::<Entry4>(ruleset, &ruleset.v4, &mut found);
    in_family::<Entry6>(ruleset, &ruleset.v6, &mut found);
    found
}

/// The more specific rules that take packets from this rule, in address order.
pub fn takers<'a>(ruleset: &'a Ruleset, rule: &'a Rule) -> impl Iterator<Item = Rule> + 'a {
    let area = Area::of(ruleset, &rule.matching);
    let rank = Precedence::of(&rule.matching);
    let takes = move |other: &Rule| {
        let meets = |area: &Area| Area::of(ruleset, &other.matching).is_some_and(|it| it.intersection(area).is_some());
        Precedence::of(&other.matching) < rank && area.as_ref().is_some_and(meets)
    };
    ruleset.rules_within(rule.matching.local).filter(takes)
}

fn in_family<E: Entry>(ruleset: &Ruleset, mut entries: &[E], found: &mut Vec<Rule>) {
    while let Some(first) = entries.first() {
        let local = first.local();
        let group = entries.iter().take_while(|entry| entry.same_local(*first)).count();
        let (group, rest) = entries.split_at(group);
        // The rules of longer prefixes inside follow directly.
        let inside = rest.partition_point(|entry| local.covers(&entry.local()));
        if group.len() + inside > 1 {
            in_group(ruleset, group, &rest[..inside], found);
        }
        entries = rest;
    }
}

/// Checks the rules of one local prefix. Rules ranked before a rule, and all rules of longer prefixes, can take its
/// packets.
fn in_group<E: Entry>(ruleset: &Ruleset, group: &[E], inside: &[E], found: &mut Vec<Rule>) {
    let rule = |entry: &E| ruleset.shapes[entry.shape() as usize].rule(entry.local());
    let area = |rule: &Rule| Area::of(ruleset, &rule.matching);
    let mut takers: Vec<Area> = inside.iter().filter_map(|entry| area(&rule(entry))).collect();
    let mut rules: Vec<Rule> = group.iter().map(rule).collect();
    rules.sort_by_key(|rule| Precedence::of(&rule.matching));
    for rule in rules {
        let Some(area) = area(&rule) else { continue };
        if area.is_covered_by(&takers) {
            found.push(rule);
        }
        takers.push(area);
    }
}
