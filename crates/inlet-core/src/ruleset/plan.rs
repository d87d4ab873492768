//! What changes between two rulesets.

use rustc_hash::FxHashMap;

use super::{Entry, Ruleset, Shape, ShapeId};
use crate::rule::{Description, Match, OnMissing, Precedence, Rule, ServiceName, Verdict};

/// Everything that differs between two rulesets, rules in address order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Services that come, go or change, by name.
    pub services: Vec<ServiceChange>,
    /// Rules that come, go or change their verdict.
    pub rules: Vec<Change>,
}

/// A service that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChange {
    /// It is new.
    Added(ServiceName, OnMissing),
    /// It is gone.
    Removed(ServiceName),
    /// Its policy is another.
    OnMissing {
        /// Its name.
        name: ServiceName,
        /// What it was.
        old: OnMissing,
        /// What it is now.
        new: OnMissing,
    },
    /// Its sockets are described otherwise; of a new service, described at all.
    Described {
        /// Its name.
        name: ServiceName,
        /// What was said.
        old: Option<Description>,
        /// What is said now.
        new: Option<Description>,
    },
}

/// A rule that differs. Its service and interface numbers are those of the ruleset that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the new ruleset has the match.
    Added(Rule),
    /// Only the old ruleset has the match.
    Removed(Rule),
    /// Both have the match, with another verdict.
    Replaced {
        /// The rule of the new ruleset.
        new: Rule,
        /// The verdict in the old ruleset.
        old: Verdict,
    },
}

impl Change {
    /// What the rule matches.
    pub fn matching(&self) -> &Match {
        match self {
            Self::Added(rule) | Self::Removed(rule) | Self::Replaced { new: rule, .. } => &rule.matching,
        }
    }
}

impl Plan {
    /// The changed rules in match order, so many of them at most.
    pub fn in_match_order(&self, limit: usize) -> Vec<&Change> {
        let mut order: Vec<(Precedence, usize)> =
            self.rules.iter().zip(0..).map(|(change, at)| (Precedence::of(change.matching()), at)).collect();
        if limit < order.len() {
            order.select_nth_unstable(limit);
            order.truncate(limit);
        }
        order.sort_unstable();
        order.into_iter().map(|(_, at)| &self.rules[at]).collect()
    }

    /// What changes when `new` takes the place of `old`.
    pub fn between(old: &Ruleset, new: &Ruleset) -> Self {
        let sides = Sides { old, new, same: same_shapes(old, new) };
        let mut rules = Vec::new();
        sides.compare(&old.v4, &new.v4, &mut rules);
        sides.compare(&old.v6, &new.v6, &mut rules);
        Self { services: compare_services(old, new), rules }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.rules.is_empty()
    }
}

fn compare_services(old: &Ruleset, new: &Ruleset) -> Vec<ServiceChange> {
    let was = |name: &str| old.services.id(name).and_then(|id| old.services.get(id));
    let mut changes = Vec::new();
    for (_, service) in new.services.iter() {
        let name = service.name.clone();
        match was(name.as_str()) {
            None => changes.push(ServiceChange::Added(name, service.on_missing)),
            Some(before) if before.on_missing != service.on_missing => {
                changes.push(ServiceChange::OnMissing { name, old: before.on_missing, new: service.on_missing });
            }
            Some(_) => {}
        }
        let before = was(service.name.as_str()).and_then(|before| before.description.as_ref());
        if before != service.description.as_ref() {
            let (name, old, new) = (service.name.clone(), before.cloned(), service.description.clone());
            changes.push(ServiceChange::Described { name, old, new });
        }
    }
    let gone = old.services.iter().filter(|(_, service)| new.services.id(service.name.as_str()).is_none());
    changes.extend(gone.map(|(_, service)| ServiceChange::Removed(service.name.clone())));
    changes
}

struct Sides<'a> {
    old: &'a Ruleset,
    new: &'a Ruleset,
    /// Per shape of the new ruleset the one of the old that says the same.
    same: Vec<Option<ShapeId>>,
}

/// For each new shape the old one that says the same with the names of its own ruleset.
fn same_shapes(old: &Ruleset, new: &Ruleset) -> Vec<Option<ShapeId>> {
    if old.shapes == new.shapes && same_numbers(old, new) {
        return (0..new.shapes.len() as ShapeId).map(Some).collect();
    }
    let known: FxHashMap<_, ShapeId> = old.shapes.iter().map(|shape| in_names(old, shape)).zip(0..).collect();
    new.shapes.iter().map(|shape| known.get(&in_names(new, shape)).copied()).collect()
}

/// Whether the numbers of services and interfaces mean the same in both.
fn same_numbers(old: &Ruleset, new: &Ruleset) -> bool {
    let names =
        |ruleset: &Ruleset| ruleset.interfaces.iter().map(|interface| interface.name.clone()).collect::<Vec<_>>();
    let stays = |(id, service): (crate::rule::ServiceId, &crate::rule::Service)| {
        new.services.id(service.name.as_str()) == Some(id)
    };
    old.services.len() == new.services.len() && old.services.iter().all(stays) && names(old) == names(new)
}

/// A shape with names in place of the numbers that only its own ruleset understands.
pub(crate) fn in_names<'a>(ruleset: &'a Ruleset, shape: &Shape) -> (Shape, Option<&'a str>, Option<&'a str>) {
    let bare = Shape { iface: None, verdict: kind(shape.verdict), ..*shape };
    let iface = shape.iface.map(|id| ruleset.interface(id).name.as_str());
    (bare, iface, ruleset.service_name(shape.verdict))
}

/// The verdict without the number of the service: a service stands as refuse, told apart by its name.
fn kind(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Service(_) => Verdict::Refuse,
        plain => plain,
    }
}

impl Sides<'_> {
    fn compare<E: Entry>(&self, mut old: &[E], mut new: &[E], changes: &mut Vec<Change>) {
        loop {
            let same = self.same_so_far(old, new);
            (old, new) = (&old[same..], &new[same..]);
            if old.is_empty() && new.is_empty() {
                break;
            }
            let (first_old, first_new) = (old.first().map(place), new.first().map(place));
            let next = [first_old, first_new].into_iter().flatten().min();
            let old_group = split_group(&mut old, next);
            let new_group = split_group(&mut new, next);
            match (old_group, new_group) {
                ([], new) => changes.extend(new.iter().map(|entry| Change::Added(rule(self.new, entry)))),
                (old, []) => changes.extend(old.iter().map(|entry| Change::Removed(rule(self.old, entry)))),
                (old, new) => self.compare_group(old, new, changes),
            }
        }
    }

    /// How many entries are the same in both from the first on, up to the end of a local prefix.
    fn same_so_far<E: Entry>(&self, old: &[E], new: &[E]) -> usize {
        let is_same =
            |(old, new): &(&E, &E)| old.same_local(**new) && self.same[new.shape() as usize] == Some(old.shape());
        let mut same = old.iter().zip(new).take_while(is_same).count();
        let goes_on = |rest: &[E], last: E| rest.first().is_some_and(|next| next.same_local(last));
        while same > 0 && (goes_on(&old[same..], old[same - 1]) || goes_on(&new[same..], old[same - 1])) {
            same -= 1;
        }
        same
    }

    /// Compares the rules of one local prefix.
    fn compare_group<E: Entry>(&self, old: &[E], new: &[E], changes: &mut Vec<Change>) {
        let before: FxHashMap<_, Rule> = old.iter().map(|entry| keyed(self.old, entry)).collect();
        let after: FxHashMap<_, Rule> = new.iter().map(|entry| keyed(self.new, entry)).collect();
        for (matching, rule) in old.iter().map(|entry| keyed(self.old, entry)) {
            if !after.contains_key(&matching) {
                changes.push(Change::Removed(rule));
            }
        }
        for (entry, (matching, rule)) in new.iter().map(|entry| (entry, keyed(self.new, entry))) {
            match before.get(&matching) {
                None => changes.push(Change::Added(rule)),
                Some(_) if self.same[entry.shape() as usize].is_some_and(|id| old.iter().any(|e| e.shape() == id)) => {}
                Some(was) => changes.push(Change::Replaced { new: rule, old: was.verdict }),
            }
        }
    }
}

/// An entry reduced to its local prefix.
pub(crate) fn place<E: Entry>(entry: &E) -> E {
    entry.with_shape(0)
}

/// Takes the entries of the local prefix `next` off the front.
pub(crate) fn split_group<'a, E: Entry>(entries: &mut &'a [E], next: Option<E>) -> &'a [E] {
    let len = entries.iter().take_while(|entry| Some(place(*entry)) == next).count();
    let (group, rest) = entries.split_at(len);
    *entries = rest;
    group
}

type MatchInNames<'a> = (Shape, Option<&'a str>);

/// A rule by what it matches, the interface by name.
fn keyed<'a, E: Entry>(ruleset: &'a Ruleset, entry: &E) -> (MatchInNames<'a>, Rule) {
    let shape = ruleset.shapes[entry.shape() as usize];
    let (bare, iface, _) = in_names(ruleset, &shape);
    ((Shape { verdict: Verdict::Pass, ..bare }, iface), rule(ruleset, entry))
}

fn rule<E: Entry>(ruleset: &Ruleset, entry: &E) -> Rule {
    ruleset.shapes[entry.shape() as usize].rule(entry.local())
}
