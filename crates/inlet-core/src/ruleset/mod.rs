//! A ruleset: all rules and services of one instance. It is planned, committed and exported as a whole.

mod build_error;
mod builder;
mod clients;
mod conflict;
mod entry;
mod plan;
mod policies;
mod selector;

use std::fmt;

use crate::rule::{
    Family, IfaceId, Interface, Match, PortRange, Precedence, Prefix, Protocol, Rule, ServiceId, Services, Verdict,
};

pub use build_error::BuildError;
pub use builder::Builder;
pub use conflict::Conflict;
pub(crate) use entry::{Entry, Entry4, Entry6, MAX_SHAPES, Shape, ShapeId};
pub use plan::{Change, Plan, ServiceChange};
pub(crate) use plan::{InNames, in_names, local_entry, split_group};
pub use selector::{Selector, Target};

/// Rules and services in canonical form: two equal rulesets are equal in every field.
///
/// A ruleset never changes. A [`Builder`] makes a new one, from nothing or from a ruleset. No
/// two rules tie on any packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub(crate) services: Services,
    /// Sorted by name.
    pub(crate) interfaces: Vec<Interface>,
    /// Sorted, each one used.
    pub(crate) shapes: Vec<Shape>,
    /// Sorted by address, then length, then shape.
    pub(crate) v4: Vec<Entry4>,
    /// Sorted in the same way.
    pub(crate) v6: Vec<Entry6>,
}

/// A kind of packets that rules give to a service. A service needs a socket for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The service.
    pub service: ServiceId,
    /// The protocol of the packets.
    pub protocol: Protocol,
    /// The family of their local addresses.
    pub family: Family,
}

impl Ruleset {
    /// The ruleset without rules and services.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The services.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The interfaces that rules name, by name.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// An interface that a rule of this ruleset names.
    pub fn interface(&self, id: IfaceId) -> &Interface {
        &self.interfaces[id.index()]
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rules in address order: IPv4 before IPv6, a prefix right before the prefixes inside it.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        self.expand(&self.v4).chain(self.expand(&self.v6))
    }

    fn expand<E: Entry>(&self, entries: &[E]) -> impl Iterator<Item = Rule> {
        entries.iter().map(|entry| self.rule(*entry))
    }

    /// The rules of this protocol that match some of these ports, in address order.
    pub fn rules_for(&self, protocol: Protocol, ports: PortRange) -> impl Iterator<Item = Rule> {
        let is_for = |shape: &Shape| shape.protocol == protocol && shape.ports.overlaps(ports);
        let wanted: Vec<bool> = self.shapes.iter().map(is_for).collect();
        let wanted_v6 = wanted.clone();
        let v4 = self.v4.iter().filter(move |entry| wanted[entry.shape() as usize]).map(|entry| self.rule(*entry));
        let v6 = self.v6.iter().filter(move |entry| wanted_v6[entry.shape() as usize]).map(|entry| self.rule(*entry));
        v4.chain(v6)
    }

    /// The rules whose local prefix is this one or inside it, in address order. These are all rules that can be more
    /// specific than a rule of this prefix.
    pub fn rules_within(&self, local: Prefix) -> impl Iterator<Item = Rule> {
        let (v4, v6): (&[Entry4], &[Entry6]) = match local.family() {
            Family::V4 => (within(&self.v4, local), &[]),
            Family::V6 => (&[], within(&self.v6, local)),
        };
        self.expand(v4).chain(self.expand(v6))
    }

    fn rule<E: Entry>(&self, entry: E) -> Rule {
        self.shapes[entry.shape() as usize].rule(entry.local())
    }

    /// All rules in match order: the first one that matches a packet decides. Rules that never meet are in address
    /// order.
    pub fn match_order(&self) -> Vec<Rule> {
        self.match_order_of(|_| true)
    }

    /// The rules for which `wanted` is true, in match order.
    pub fn match_order_of(&self, wanted: impl Fn(&Rule) -> bool) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.rules().filter(wanted).collect();
        rules.sort_by_key(|rule| Precedence::of(&rule.matching));
        rules
    }

    /// How many rules name each service. A service without rules is not listed.
    pub fn rules_per_service(&self) -> std::collections::BTreeMap<ServiceId, u64> {
        let mut per_shape = vec![0_u64; self.shapes.len()];
        self.v4.iter().for_each(|entry| per_shape[entry.shape() as usize] += 1);
        self.v6.iter().for_each(|entry| per_shape[entry.shape() as usize] += 1);
        let mut counts = std::collections::BTreeMap::new();
        for (shape, count) in self.shapes.iter().zip(per_shape) {
            if let Verdict::Service(id) = shape.verdict {
                *counts.entry(id).or_default() += count;
            }
        }
        counts
    }

    /// The kinds of packets that rules give to services.
    pub fn kinds(&self) -> std::collections::BTreeSet<Kind> {
        let mut named = vec![[false; 2]; self.shapes.len()];
        self.v4.iter().for_each(|entry| named[entry.shape() as usize][0] = true);
        self.v6.iter().for_each(|entry| named[entry.shape() as usize][1] = true);
        let mut kinds = std::collections::BTreeSet::new();
        for (shape, named) in self.shapes.iter().zip(named) {
            if let Verdict::Service(service) = shape.verdict {
                let families = Family::ALL.into_iter().zip(named).filter(|(_, named)| *named);
                kinds.extend(families.map(|(family, _)| Kind { service, protocol: shape.protocol, family }));
            }
        }
        kinds
    }

    /// The families of the rules that have a mark.
    pub fn families_with_marks(&self) -> std::collections::BTreeSet<Family> {
        let marked: Vec<bool> = self.shapes.iter().map(|shape| shape.mark.is_some()).collect();
        if !marked.contains(&true) {
            return Default::default();
        }
        let v4 = self.v4.iter().any(|entry| marked[entry.shape() as usize]).then_some(Family::V4);
        let v6 = self.v6.iter().any(|entry| marked[entry.shape() as usize]).then_some(Family::V6);
        v4.into_iter().chain(v6).collect()
    }

    /// The services to which rules of UDP lead, each with the ports of such a rule. A pair is there once.
    pub fn udp_services(&self) -> std::collections::BTreeSet<(ServiceId, PortRange)> {
        let leads_to = |shape: &Shape| match (shape.protocol, shape.verdict) {
            (Protocol::Udp, Verdict::Service(id)) => Some((id, shape.ports)),
            _ => None,
        };
        self.shapes.iter().filter_map(leads_to).collect()
    }

    /// The verdict of the rule with exactly this match.
    pub fn get(&self, matching: &Match) -> Option<Verdict> {
        let wanted = Shape::of(&Rule { matching: *matching, verdict: Verdict::Pass });
        let shape = |id: u32| self.shapes[id as usize];
        let found = match matching.local.family() {
            Family::V4 => {
                group(&self.v4, matching.local).iter().map(|entry| shape(entry.shape())).find(|s| s.same_match(&wanted))
            }
            Family::V6 => {
                group(&self.v6, matching.local).iter().map(|entry| shape(entry.shape())).find(|s| s.same_match(&wanted))
            }
        };
        found.map(|shape| shape.verdict)
    }

    /// The rule with the names of its service and interface.
    pub fn named<'a>(&'a self, rule: &'a Rule) -> Named<'a> {
        Named::new(&self.services, &self.interfaces, rule)
    }

    /// The name of the service of a verdict.
    pub fn service_name(&self, verdict: Verdict) -> Option<&str> {
        match verdict {
            Verdict::Service(id) => self.services.get(id).map(|service| service.name.as_str()),
            Verdict::Pass | Verdict::Refuse => None,
        }
    }
}

/// The entries of a local prefix and of all prefixes inside it.
fn within<E: Entry>(entries: &[E], local: Prefix) -> &[E] {
    let start = entries.partition_point(|entry| *entry < E::new(local, 0));
    let len = entries[start..].partition_point(|entry| local.covers(&entry.local()));
    &entries[start..start + len]
}

/// The entries of one local prefix.
pub(crate) fn group<E: Entry>(entries: &[E], local: Prefix) -> &[E] {
    let start = entries.partition_point(|entry| *entry < E::new(local, 0));
    let len = entries[start..].iter().take_while(|entry| entry.local() == local).count();
    &entries[start..start + len]
}

/// A rule in the words of the command line: `tcp 192.0.2.0/24 80 from 203.0.113.0/24 iface eth0 mark 0x1/0xff -> web`.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    services: &'a Services,
    interfaces: &'a [Interface],
    rule: &'a Rule,
}

impl<'a> Named<'a> {
    pub(crate) fn new(services: &'a Services, interfaces: &'a [Interface], rule: &'a Rule) -> Self {
        Self { services, interfaces, rule }
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { matching, verdict } = self.rule;
        write!(f, "{} {} {}", matching.protocol, matching.local, matching.ports)?;
        if let Some(source) = matching.source {
            write!(f, " from {source}")?;
        }
        if let Some(id) = matching.iface {
            write!(f, " iface {}", self.interfaces[id.index()].name)?;
        }
        if let Some(mark) = matching.mark {
            write!(f, " mark {mark}")?;
        }
        match verdict {
            Verdict::Pass => f.write_str(" -> pass"),
            Verdict::Refuse => f.write_str(" -> refuse"),
            Verdict::Service(id) => {
                write!(f, " -> {}", self.services.get(*id).map_or("?", |service| service.name.as_str()))
            }
        }
    }
}
