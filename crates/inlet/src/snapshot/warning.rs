//! What a ruleset would do that its author may not have meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use inlet_core::{
    Answers, Change, Family, Kind, Moved, OnMissing, Plan, Prefix, Protocol, Rule, Ruleset, ServiceChange, ServiceId,
    ServiceName, Verdict, traffic_to,
};

use super::proposal::Proposal;
use super::{AnswersState, Losses, Receivers, Snapshot};
use crate::error::{Error, Result};
use crate::file::not_there;
use crate::socket::SocketState;

/// Something to look at before a ruleset is put in force.
#[derive(Clone, Debug)]
pub enum Warning {
    /// Packets would go to a service that has no live socket for them, nor a description that finds one.
    NoSocket {
        /// The service.
        service: ServiceName,
        /// What would happen to them.
        on_missing: OnMissing,
        /// Some of these packets.
        moved: Moved,
    },
    /// The description of a service names what is not there, which [`crate::Instance::apply`] refuses.
    NotThere {
        /// The service.
        service: ServiceName,
        /// What is not there.
        reason: String,
        /// The next step.
        fix: String,
    },
    /// Answers of a service over UDP would leave from where its sockets are bound.
    BoundAnswers {
        /// The service.
        service: ServiceName,
        /// Whether the service says so, or this host cannot do better.
        by_choice: bool,
    },
    /// A listener receives packets now and would not any more.
    Loses {
        /// The listener.
        socket: SocketState,
        /// Some of these packets.
        moved: Moved,
    },
}

impl Warning {
    /// The next step, when there is one.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NoSocket { .. } => Some("give it sockets with: inlet register, or describe them: inlet service set"),
            Self::NotThere { fix, .. } => Some(fix),
            Self::BoundAnswers { by_choice: true, .. } => Some(
                "leave as it is when the server answers from there by itself; else: inlet service set SERVICE --answers asked",
            ),
            Self::BoundAnswers { by_choice: false, .. } => Some("see what is missing with: inlet check"),
            Self::Loses { .. } => None,
        }
    }
}

/// So many changes are looked at first for packets that one kind would get.
const SAMPLES: usize = 4;

impl Snapshot {
    /// What the proposal would do that its author may not have meant. Each service and each listener is told of once.
    ///
    /// # Errors
    /// Those of listing sockets and routes.
    pub fn warnings(&self, proposal: &Proposal) -> Result<Vec<Warning>> {
        let receivers = self.receivers()?;
        let step = Losses::between(self.location().netns(), &receivers, &proposal.before, &proposal.after)?;
        let missing = not_there(&proposal.before, &proposal.after);
        let not_there = |(service, error): (&ServiceName, Error)| Warning::NotThere {
            service: service.clone(),
            reason: error.to_string(),
            fix: error.remedy().unwrap_or_default().into_owned(),
        };
        let mut warnings: Vec<_> = missing.map(not_there).collect();
        warnings.extend(no_sockets(&receivers, proposal));
        let unable = self.answers()? == AnswersState::Unable;
        warnings.extend(bound_answers(proposal, unable));
        warnings.extend(losses(&step, &proposal.plan));
        Ok(warnings)
    }
}

/// The listeners that would lose packets, which can only be packets to local addresses.
fn losses(step: &Losses<'_>, plan: &Plan) -> Vec<Warning> {
    let (mut warnings, mut told) = (Vec::new(), BTreeSet::new());
    let sockets = &step.receivers.sockets;
    traffic_to(step.old, step.new, plan, step.local_prefixes(), &mut |moved| {
        let ordinary = !matches!(moved.previous.map(|rule| rule.verdict), Some(Verdict::Service(_) | Verdict::Refuse));
        let at = sockets.at(moved.protocol, moved.ports.first(), moved.ports.last());
        for listed in at.filter(|_| ordinary) {
            let lost = || step.lost(listed, &moved);
            if !told.contains(&listed.cookie) && lost().is_some() {
                told.insert(listed.cookie);
                let socket = sockets.describe_listed(listed);
                warnings.push(Warning::Loses { socket, moved: moved.clone() });
            }
        }
        ControlFlow::Continue(())
    });
    warnings
}

/// The services that get datagrams by a change, and whose answers would leave from where their sockets are bound.
fn bound_answers(proposal: &Proposal, unable: bool) -> Vec<Warning> {
    let Proposal { after, plan, .. } = proposal;
    let gains = |id: ServiceId| {
        let leads = |rule: &Rule| rule.matching.protocol == Protocol::Udp && rule.verdict == Verdict::Service(id);
        plan.rules.iter().filter_map(gained).any(leads)
    };
    let ids: BTreeSet<ServiceId> = after.udp_services().into_iter().map(|(id, _)| id).collect();
    let mut warnings = Vec::new();
    for (id, service) in ids.into_iter().filter_map(|id| Some((id, after.services().get(id)?))) {
        let by_choice = service.answers == Some(Answers::Bound);
        let changes =
            |change: &ServiceChange| matches!(change, ServiceChange::Answers { name, .. } if *name == service.name);
        if (by_choice || unable) && (plan.services.iter().any(changes) || gains(id)) {
            warnings.push(Warning::BoundAnswers { service: service.name.clone(), by_choice });
        }
    }
    warnings
}

/// The services that would get packets which none of their sockets is for, each with some of these.
fn no_sockets(receivers: &Receivers, proposal: &Proposal) -> Vec<Warning> {
    let mut left = unserved(receivers, &proposal.after);
    let mut found = first_of_each(proposal, samples(&proposal.plan, &left), &mut left);
    // What a few changes for each did not show takes a look at all that could.
    found.extend(first_of_each(proposal, leading_to(proposal, &left), &mut left));
    found.sort_by_key(|(_, moved)| (moved.local.first(), moved.protocol, moved.ports));
    let service = |id: ServiceId| proposal.after.services().get(id);
    let warning = |(kind, moved): (Kind, Moved)| {
        let service = service(kind.service)?;
        Some(Warning::NoSocket { service: service.name.clone(), on_missing: service.on_missing, moved })
    };
    found.into_iter().filter_map(warning).collect()
}

/// What rules name and no socket serves.
fn unserved(receivers: &Receivers, after: &Ruleset) -> BTreeSet<Kind> {
    let mut kinds = after.kinds();
    kinds.retain(|Kind { service: id, protocol, family }| {
        after.services().get(*id).is_some_and(|service| !receivers.serves(service, *protocol, *family == Family::V6))
    });
    kinds
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
fn leading_to(proposal: &Proposal, wanted: &BTreeSet<Kind>) -> Vec<Prefix> {
    if wanted.is_empty() {
        return Vec::new();
    }
    if proposal.before.interfaces() != proposal.after.interfaces() {
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
    proposal.plan.rules.iter().filter(leads).map(|change| change.matching().local).collect()
}

fn gained(change: &Change) -> Option<&Rule> {
    match change {
        Change::Added(rule) | Change::Replaced { new: rule, .. } => Some(rule),
        Change::Removed(_) => None,
    }
}

/// For each kind that is left some packets to these prefixes that move to it. What is found is not left any more.
fn first_of_each(proposal: &Proposal, prefixes: Vec<Prefix>, left: &mut BTreeSet<Kind>) -> Vec<(Kind, Moved)> {
    let mut found = Vec::new();
    let Proposal { before, after, plan, .. } = proposal;
    traffic_to(before, after, plan, prefixes, &mut |moved| {
        if let Some(kind) = moved.new.as_ref().and_then(kind_of).filter(|kind| left.remove(kind)) {
            found.push((kind, moved));
        }
        if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}
