//! The differences between two rulesets.

use rustc_hash::FxHashMap;

use super::{Entry, Ruleset, Shape, ShapeId};
use crate::rule::{
    Answers, Description, Grant, Match, OnMissing, Precedence, Rule, ServiceName, Spread, Sticky, Verdict,
};

/// Everything that differs between two rulesets, rules in address order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Services that are added, removed or changed, by name.
    pub services: Vec<ServiceChange>,
    /// Rules that are added, removed or get another verdict.
    pub rules: Vec<Change>,
    /// Grants that are added.
    pub granted: Vec<Grant>,
    /// Grants that are removed.
    pub revoked: Vec<Grant>,
}

/// A service that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChange {
    /// The service is new.
    Added(ServiceName, OnMissing),
    /// The service is removed.
    Removed(ServiceName),
    /// The service has another policy.
    OnMissing {
        /// Its name.
        name: ServiceName,
        /// The previous policy.
        previous: OnMissing,
        /// The new policy.
        new: OnMissing,
    },
    /// Somebody else chooses among the sockets of the service. A new service whose group chooses is listed here too.
    Spread {
        /// Its name.
        name: ServiceName,
        /// Who chose.
        previous: Spread,
        /// Who chooses.
        new: Spread,
    },
    /// The answers of the service leave from elsewhere. A new service that says where from is listed here too.
    Answers {
        /// Its name.
        name: ServiceName,
        /// The previous source of answers.
        previous: Option<Answers>,
        /// The new source of answers.
        new: Option<Answers>,
    },
    /// Flows of the service stay for another time. A new service whose flows stay is listed here too.
    Sticky {
        /// Its name.
        name: ServiceName,
        /// The previous time.
        previous: Sticky,
        /// The new time.
        new: Sticky,
    },
    /// The service has another description. A new service that has a description is listed here too.
    Described {
        /// Its name.
        name: ServiceName,
        /// The previous description.
        previous: Option<Description>,
        /// The new description.
        new: Option<Description>,
    },
}

/// A rule that differs. The numbers of its service and interface are those of its own ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the new ruleset has the match.
    Added(Rule),
    /// Only the previous ruleset has the match.
    Removed(Rule),
    /// Both have the match, with different verdicts.
    Replaced {
        /// The rule of the new ruleset.
        new: Rule,
        /// The verdict in the previous ruleset.
        previous: Verdict,
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
    /// The changed rules in match order, at most `limit`.
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

    /// What changes when `new` replaces `previous`.
    pub fn between(previous: &Ruleset, new: &Ruleset) -> Self {
        let sides = Sides { previous, new, same: same_shapes(previous, new) };
        let mut rules = Vec::new();
        sides.compare(&previous.v4, &new.v4, &mut rules);
        sides.compare(&previous.v6, &new.v6, &mut rules);
        let only = |of: &Ruleset, not: &Ruleset| -> Vec<Grant> {
            let others = not.services.grants();
            of.services.grants().iter().filter(|grant| !others.contains(grant)).cloned().collect()
        };
        let (granted, revoked) = (only(new, previous), only(previous, new));
        Self { services: compare_services(previous, new), rules, granted, revoked }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.rules.is_empty() && self.granted.is_empty() && self.revoked.is_empty()
    }
}

fn compare_services(previous: &Ruleset, new: &Ruleset) -> Vec<ServiceChange> {
    let was = |name: &str| previous.services.id(name).and_then(|id| previous.services.get(id));
    let mut changes = Vec::new();
    for (_, service) in new.services.iter() {
        let name = service.name.clone();
        match was(name.as_str()) {
            None => changes.push(ServiceChange::Added(name, service.on_missing)),
            Some(before) if before.on_missing != service.on_missing => {
                changes.push(ServiceChange::OnMissing { name, previous: before.on_missing, new: service.on_missing });
            }
            Some(_) => {}
        }
        let previous = was(service.name.as_str()).map_or_else(Spread::default, |before| before.spread);
        if previous != service.spread {
            changes.push(ServiceChange::Spread { name: service.name.clone(), previous, new: service.spread });
        }
        let previous = was(service.name.as_str()).and_then(|before| before.answers);
        if previous != service.answers {
            changes.push(ServiceChange::Answers { name: service.name.clone(), previous, new: service.answers });
        }
        let previous = was(service.name.as_str()).map_or_else(Sticky::default, |before| before.sticky);
        if previous != service.sticky {
            changes.push(ServiceChange::Sticky { name: service.name.clone(), previous, new: service.sticky });
        }
        let before = was(service.name.as_str()).and_then(|before| before.description.as_ref());
        if before != service.description.as_ref() {
            let (name, previous, new) = (service.name.clone(), before.cloned(), service.description.clone());
            changes.push(ServiceChange::Described { name, previous, new });
        }
    }
    let gone = previous.services.iter().filter(|(_, service)| new.services.id(service.name.as_str()).is_none());
    changes.extend(gone.map(|(_, service)| ServiceChange::Removed(service.name.clone())));
    changes
}

struct Sides<'a> {
    previous: &'a Ruleset,
    new: &'a Ruleset,
    /// For each shape of the new ruleset the equal shape of the previous one.
    same: Vec<Option<ShapeId>>,
}

/// For each new shape the previous shape that is equal, with services and interfaces compared by name.
fn same_shapes(previous: &Ruleset, new: &Ruleset) -> Vec<Option<ShapeId>> {
    if previous.shapes == new.shapes && same_numbers(previous, new) {
        return (0..new.shapes.len() as ShapeId).map(Some).collect();
    }
    let known: FxHashMap<_, ShapeId> = previous.shapes.iter().map(|shape| in_names(previous, shape)).zip(0..).collect();
    new.shapes.iter().map(|shape| known.get(&in_names(new, shape)).copied()).collect()
}

/// Whether the numbers of services and interfaces mean the same in both.
fn same_numbers(previous: &Ruleset, new: &Ruleset) -> bool {
    let names = |ruleset: &Ruleset| ruleset.interfaces.iter().map(|interface| interface.name).collect::<Vec<_>>();
    let stays = |(id, service): (crate::rule::ServiceId, &crate::rule::Service)| {
        new.services.id(service.name.as_str()) == Some(id)
    };
    previous.services.len() == new.services.len()
        && previous.services.iter().all(stays)
        && names(previous) == names(new)
}

/// A shape without the numbers that only its own ruleset understands, and the names of its interface and service.
pub(crate) type InNames<'a> = (Shape, Option<&'a str>, Option<&'a str>);

/// A shape with names in place of numbers.
pub(crate) fn in_names<'a>(ruleset: &'a Ruleset, shape: &Shape) -> InNames<'a> {
    let bare = Shape { iface: None, verdict: kind(shape.verdict), ..*shape };
    let iface = shape.iface.map(|id| ruleset.interface(id).name.as_str());
    (bare, iface, ruleset.service_name(shape.verdict))
}

/// The verdict without the number of a service. A service becomes `Refuse` here, and its name tells it apart.
fn kind(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Service(_) => Verdict::Refuse,
        plain => plain,
    }
}

impl Sides<'_> {
    fn compare<E: Entry>(&self, mut previous: &[E], mut new: &[E], changes: &mut Vec<Change>) {
        loop {
            let same = self.same_so_far(previous, new);
            (previous, new) = (&previous[same..], &new[same..]);
            if previous.is_empty() && new.is_empty() {
                break;
            }
            let (first_previous, first_new) = (previous.first().map(local_entry), new.first().map(local_entry));
            let next = [first_previous, first_new].into_iter().flatten().min();
            let previous_group = split_group(&mut previous, next);
            let new_group = split_group(&mut new, next);
            match (previous_group, new_group) {
                ([], new) => changes.extend(new.iter().map(|entry| Change::Added(rule(self.new, entry)))),
                (previous, []) => {
                    changes.extend(previous.iter().map(|entry| Change::Removed(rule(self.previous, entry))))
                }
                (previous, new) => self.compare_group(previous, new, changes),
            }
        }
    }

    /// How many entries at the front are equal in both, up to the end of a local prefix.
    fn same_so_far<E: Entry>(&self, previous: &[E], new: &[E]) -> usize {
        let is_same = |(previous, new): &(&E, &E)| {
            previous.same_local(**new) && self.same[new.shape() as usize] == Some(previous.shape())
        };
        let mut same = previous.iter().zip(new).take_while(is_same).count();
        let goes_on = |rest: &[E], last: E| rest.first().is_some_and(|next| next.same_local(last));
        while same > 0 && (goes_on(&previous[same..], previous[same - 1]) || goes_on(&new[same..], previous[same - 1]))
        {
            same -= 1;
        }
        same
    }

    /// Compares the rules of one local prefix.
    fn compare_group<E: Entry>(&self, previous: &[E], new: &[E], changes: &mut Vec<Change>) {
        let before: FxHashMap<_, Rule> = previous.iter().map(|entry| keyed(self.previous, entry)).collect();
        let after: FxHashMap<_, Rule> = new.iter().map(|entry| keyed(self.new, entry)).collect();
        for (matching, rule) in previous.iter().map(|entry| keyed(self.previous, entry)) {
            if !after.contains_key(&matching) {
                changes.push(Change::Removed(rule));
            }
        }
        for (entry, (matching, rule)) in new.iter().map(|entry| (entry, keyed(self.new, entry))) {
            match before.get(&matching) {
                None => changes.push(Change::Added(rule)),
                Some(_)
                    if self.same[entry.shape() as usize].is_some_and(|id| previous.iter().any(|e| e.shape() == id)) => {
                }
                Some(was) => changes.push(Change::Replaced { new: rule, previous: was.verdict }),
            }
        }
    }
}

/// An entry reduced to its local prefix.
pub(crate) fn local_entry<E: Entry>(entry: &E) -> E {
    entry.with_shape(0)
}

/// Takes the entries of the local prefix `next` off the front.
pub(crate) fn split_group<'a, E: Entry>(entries: &mut &'a [E], next: Option<E>) -> &'a [E] {
    let len = entries.iter().take_while(|entry| Some(local_entry(*entry)) == next).count();
    let (group, rest) = entries.split_at(len);
    *entries = rest;
    group
}

type MatchInNames<'a> = (Shape, Option<&'a str>);

/// What a rule matches, with the interface by name; and the rule.
fn keyed<'a, E: Entry>(ruleset: &'a Ruleset, entry: &E) -> (MatchInNames<'a>, Rule) {
    let shape = ruleset.shapes[entry.shape() as usize];
    let (bare, iface, _) = in_names(ruleset, &shape);
    ((Shape { verdict: Verdict::Pass, ..bare }, iface), rule(ruleset, entry))
}

fn rule<E: Entry>(ruleset: &Ruleset, entry: &E) -> Rule {
    ruleset.shapes[entry.shape() as usize].rule(entry.local())
}
