//! The services that would get packets which none of their sockets is for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use inlet_core::config::nearest;
use inlet_core::{
    Answers, Area, Arrival, Change, Family, Kind, Marks, Moved, Plan, Prefix, Protocol, Rule, Ruleset, ServiceChange,
    ServiceId, ServiceName, Verdict, traffic_to,
};

use super::{Step, Warning};
use crate::snapshot::receivers::{Receivers, Serves};

/// So many changes are looked at first for packets that one kind would get.
const SAMPLES: usize = 4;

/// Each service that would get packets of a kind for which it has no socket, or none but sockets that are bound to an
/// interface, with some of these.
pub(super) fn without_sockets(then: &Receivers, step: &Step<'_>) -> Vec<Warning> {
    let mut left = unserved(then, step.after);
    // What a few changes for each did not show takes a look at all that could.
    let mut found = first_of_each(then, step, samples(step.plan, &left), &mut left);
    found.extend(first_of_each(then, step, leading_to(step, &left), &mut left));
    found.extend(of_new_descriptions(step, left));
    found.sort_by_key(|(_, moved)| (moved.local.first(), moved.protocol, moved.ports));
    found.into_iter().filter_map(|(kind, moved)| warning(then, step, kind, moved)).collect()
}

fn warning(then: &Receivers, step: &Step<'_>, kind: Kind, moved: Moved) -> Option<Warning> {
    let found = step.after.services().get(kind.service)?;
    let (service, on_missing) = (found.name.clone(), found.on_missing);
    Some(match then.serves(found, kind.protocol, kind.family == Family::V6) {
        Serves::Only(devices) => {
            let interfaces = devices.iter().map(|index| then.sockets.device(*index)).collect();
            Warning::OnlyOn { service, on_missing, interfaces, moved }
        }
        _ => Warning::NoSocket { meant: meant(step, &service), service, on_missing, moved },
    })
}

/// The services that get datagrams by a change, and whose answers leave from where their sockets are bound.
pub(super) fn bound_answers(step: &Step<'_>) -> Vec<Warning> {
    let gains = |id: ServiceId| {
        let leads = |rule: &Rule| rule.matching.protocol == Protocol::Udp && rule.verdict == Verdict::Service(id);
        step.plan.rules.iter().filter_map(gained).any(leads)
    };
    let ids: BTreeSet<ServiceId> = step.after.udp_services().into_iter().map(|(id, _)| id).collect();
    let mut warnings = Vec::new();
    for (id, service) in ids.into_iter().filter_map(|id| Some((id, step.after.services().get(id)?))) {
        let by_choice = service.answers == Some(Answers::Bound);
        let changes =
            |change: &ServiceChange| matches!(change, ServiceChange::Answers { name, .. } if *name == service.name);
        if (by_choice || step.answers_unable) && (step.plan.services.iter().any(changes) || gains(id)) {
            warnings.push(Warning::BoundAnswers { service: service.name.clone(), by_choice });
        }
    }
    warnings
}

/// Packets of services whose sockets are others now by another description, though no rule for them changed.
fn of_new_descriptions(step: &Step<'_>, mut left: BTreeSet<Kind>) -> Vec<(Kind, Moved)> {
    let is_new = |name: &ServiceName| {
        let new = |change: &ServiceChange| matches!(change, ServiceChange::Described { name: it, .. } if it == name);
        step.plan.services.iter().any(new)
    };
    left.retain(|kind| step.after.services().get(kind.service).is_some_and(|service| is_new(&service.name)));
    if left.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for rule in step.after.rules() {
        let Some(kind) = kind_of(&rule).filter(|kind| left.remove(kind)) else { continue };
        let previous = step.before.rules().find(|rule| kind_of(rule) == Some(kind));
        found.extend(moved(step.after, rule, previous).map(|moved| (kind, moved)));
    }
    found
}

/// The packets of a rule; `None` where its interface does not exist.
pub(super) fn moved(ruleset: &Ruleset, rule: Rule, previous: Option<Rule>) -> Option<Moved> {
    let Area { protocol, local, ports, source, ifindex, mark } = Area::of(ruleset, &rule.matching)?;
    let arrival = ifindex.map_or(Arrival::Any, Arrival::On);
    Some(Moved {
        protocol,
        local: local.into(),
        ports,
        source: source.map(Into::into),
        arrival,
        marks: mark.map_or(Marks::Any, Marks::Of),
        previous,
        new: Some(rule),
    })
}

/// The service that a new name was probably meant for.
fn meant(step: &Step<'_>, service: &ServiceName) -> Option<ServiceName> {
    let known = step.before.services();
    if known.id(service.as_str()).is_some() {
        return None;
    }
    let name = nearest(service.as_str(), known.iter().map(|(_, service)| service.name.as_str()))?;
    known.iter().map(|(_, service)| &service.name).find(|known| known.as_str() == name).cloned()
}

/// What rules name and no socket serves, wherever the packets come in.
fn unserved(receivers: &Receivers, after: &Ruleset) -> BTreeSet<Kind> {
    let mut kinds = after.kinds();
    kinds.retain(|Kind { service: id, protocol, family }| {
        let serves = |service| receivers.serves(service, *protocol, *family == Family::V6);
        after.services().get(*id).is_some_and(|service| *serves(service) != Serves::Everywhere)
    });
    kinds
}

/// Whether none of a service's sockets is for packets that come in so.
fn is_unserved(serves: &Serves, arrival: &Arrival) -> bool {
    match (serves, arrival) {
        (Serves::Everywhere, _) => false,
        (Serves::Nowhere, _) | (Serves::Only(_), Arrival::Any | Arrival::NotOn(_)) => true,
        (Serves::Only(devices), Arrival::On(index)) => !devices.contains(index),
    }
}

fn kind_of(rule: &Rule) -> Option<Kind> {
    let Verdict::Service(service) = rule.verdict else { return None };
    Some(Kind { service, protocol: rule.matching.protocol, family: rule.matching.local.family() })
}

/// The prefixes of the first changes that give packets to each of these.
fn samples(plan: &Plan, wanted: &BTreeSet<Kind>) -> Vec<Prefix> {
    let mut taken: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut prefixes = Vec::new();
    for rule in plan.rules.iter().filter_map(gained) {
        let Some(kind) = kind_of(rule).filter(|kind| wanted.contains(kind)) else { continue };
        let taken = taken.entry(kind).or_default();
        if *taken < SAMPLES {
            *taken += 1;
            prefixes.push(rule.matching.local);
        }
    }
    prefixes
}

/// The prefixes of all changes that can give packets to some of these: by a rule of theirs, or by one that is gone and
/// had hidden a rule of theirs.
fn leading_to(step: &Step<'_>, wanted: &BTreeSet<Kind>) -> Vec<Prefix> {
    if wanted.is_empty() {
        return Vec::new();
    }
    if step.before.interfaces() != step.after.interfaces() {
        // Another index may concern any rule.
        return [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .into_iter()
            .filter_map(|all| Prefix::holding(all, 0))
            .collect();
    }
    let can_uncover = |protocol: Protocol, family: Family| {
        wanted.iter().any(|kind| (kind.protocol, kind.family) == (protocol, family))
    };
    let leads = |change: &&Change| {
        let matching = change.matching();
        let gives = gained(change).and_then(kind_of).is_some_and(|kind| wanted.contains(&kind));
        let takes = !matches!(change, Change::Added(_));
        gives || takes && can_uncover(matching.protocol, matching.local.family())
    };
    step.plan.rules.iter().filter(leads).map(|change| change.matching().local).collect()
}

/// The rule that a change brings.
pub(super) fn gained(change: &Change) -> Option<&Rule> {
    match change {
        Change::Added(rule) | Change::Replaced { new: rule, .. } => Some(rule),
        Change::Removed(_) => None,
    }
}

/// For each kind that is left some packets to these prefixes that move to it. What is found is not left any more.
fn first_of_each(
    then: &Receivers,
    step: &Step<'_>,
    prefixes: Vec<Prefix>,
    left: &mut BTreeSet<Kind>,
) -> Vec<(Kind, Moved)> {
    let mut found = Vec::new();
    let Step { before, after, plan, .. } = step;
    let lacks = |kind: &Kind, moved: &Moved| {
        let service = after.services().get(kind.service);
        let serves = |service| then.serves(service, kind.protocol, kind.family == Family::V6);
        service.is_some_and(|service| is_unserved(serves(service), &moved.arrival))
    };
    traffic_to(before, after, plan, prefixes, &mut |moved| {
        let kind = moved.new.as_ref().and_then(kind_of);
        if let Some(kind) = kind.filter(|kind| left.contains(kind) && lacks(kind, &moved)) {
            left.remove(&kind);
            found.push((kind, moved));
        }
        if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_an_interface_serve_what_comes_in_there() {
        let only = Serves::Only(BTreeSet::from([3]));
        assert!(!is_unserved(&only, &Arrival::On(3)) && is_unserved(&only, &Arrival::On(4)));
        assert!(is_unserved(&only, &Arrival::Any) && is_unserved(&only, &Arrival::NotOn([4].into())));
        assert!(is_unserved(&Serves::Nowhere, &Arrival::On(3)) && !is_unserved(&Serves::Everywhere, &Arrival::Any));
    }
}
