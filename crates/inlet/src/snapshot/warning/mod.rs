//! What a ruleset would do, or does since it is in force, that its author may not have meant.

mod listeners;
mod services;
mod users;

use std::collections::HashSet;

use inlet_core::config::Skipped;
use inlet_core::{
    Listen, Moved, OnMissing, Plan, Prefix, PrefixSet, Reopened, Rule, Ruleset, ServiceName, Verdict, reopened_by,
    steered_prefixes,
};

use super::{Losses, Receivers, lockout};
use crate::error::{CommitError, Error, Result, RouteError};
use crate::file::not_there;
use crate::kernel::Netns;
use crate::program::marks;
use crate::route::RoutePlan;
use crate::socket::{Device, SocketState, Stranger};

/// Something to look at when a ruleset is put in force.
#[derive(Clone, Debug)]
pub enum Warning {
    /// A list is read without some of its lines, which are no prefixes.
    Skipped(Skipped),
    /// The commit will be refused.
    Refused {
        /// Why.
        reason: String,
        /// The next step.
        fix: String,
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
    /// Packets to prefixes of changed rules are not delivered here.
    NotLocal {
        /// The prefixes that no route makes local, as few as have the same addresses. Never empty.
        prefixes: Vec<Prefix>,
        /// The next step.
        fix: String,
    },
    /// Packets go to a service that has no live socket for them, nor a description that finds one.
    NoSocket {
        /// The service.
        service: ServiceName,
        /// What happens to them.
        on_missing: OnMissing,
        /// Some of these packets.
        moved: Moved,
        /// The service that was probably meant, when this one is new.
        meant: Option<ServiceName>,
    },
    /// Packets go to a service whose sockets for them are all bound to interfaces.
    OnlyOn {
        /// The service.
        service: ServiceName,
        /// What happens to packets that come in elsewhere.
        on_missing: OnMissing,
        /// The interfaces.
        interfaces: Vec<Device>,
        /// Some of these packets.
        moved: Moved,
    },
    /// Answers of a service over UDP leave from where its sockets are bound.
    BoundAnswers {
        /// The service.
        service: ServiceName,
        /// Whether the service says so, or this host cannot do better.
        by_choice: bool,
    },
    /// A listener receives packets, and does not any more.
    Loses {
        /// The listener.
        socket: SocketState,
        /// The packets, at least some.
        lost: Vec<Moved>,
        /// Whether these are all.
        is_all: bool,
        /// Whether answers to what it sent pass.
        answers_pass: bool,
    },
    /// What serves SSH, or this session, would lose packets as soon as their addresses are local. They are not now.
    LosesOnceLocal {
        /// The listener.
        socket: SocketState,
        /// Some of these packets.
        moved: Moved,
        /// What keeps them.
        fix: String,
    },
    /// A rule decides about packets of sources that other rules refuse.
    OpensAgain {
        /// The more specific rule.
        by: Rule,
        /// A rule that refuses a source.
        refusing: Rule,
        /// How many such rules there are.
        count: usize,
        /// The next step.
        fix: String,
    },
    /// Any local user can open a socket that a description means.
    OpenToAnyone {
        /// The service.
        service: ServiceName,
        /// Where.
        listen: Listen,
        /// Some of the packets that it would get; `None`: no rule gives it any yet.
        moved: Option<Moved>,
        /// The next step.
        fix: String,
    },
    /// A new description means sockets of several users, and each gets a part of the packets.
    SeveralUsers {
        /// The service.
        service: ServiceName,
        /// The names of the users.
        users: Vec<String>,
    },
}

/// From one ruleset to the next.
pub(crate) struct Step<'a> {
    pub(crate) before: &'a Ruleset,
    pub(crate) after: &'a Ruleset,
    pub(crate) plan: &'a Plan,
    /// Whether Inlet keeps the local routes then.
    pub(crate) keeps_routes: bool,
    /// Whether this host cannot send answers over UDP from where they were asked, as far as it is known.
    pub(crate) answers_unable: bool,
}

/// What the step does that its author may not have meant. Each service and each listener is named once. `to_come`: it
/// is not done yet, and may be refused.
pub(crate) fn all(netns: &Netns, [now, then]: [&Receivers; 2], step: &Step<'_>, to_come: bool) -> Result<Vec<Warning>> {
    let losses = Losses::between(netns, [now, then], [step.before, step.after])?;
    let mut warnings = Vec::new();
    let refusal = lockout::refusal(netns, &losses, step.plan);
    if to_come {
        warnings.extend(refusal.as_ref().map(refused));
        warnings.extend(routes_refused(netns, step)?);
        warnings.extend(unable(netns, now, step));
        warnings.extend(not_there(step.before, step.after).map(|(service, error)| Warning::NotThere {
            service: service.clone(),
            reason: error.to_string(),
            fix: error.remedy().unwrap_or_default().into_owned(),
        }));
    }
    warnings.extend(not_local(&losses, step));
    warnings.extend(services::without_sockets(then, step));
    warnings.extend(services::bound_answers(step));
    warnings.extend(listeners::lost(&losses, step));
    if refusal.is_none() {
        warnings.extend(lockout::once_local(netns, &losses, step.plan).map(|(guarded, lost, fix)| {
            let socket = now.sockets.describe_listed(&guarded.listed);
            Warning::LosesOnceLocal { socket, moved: lost.moved, fix }
        }));
    }
    warnings.extend(opens_again(step));
    warnings.extend(users::open_to_anyone(netns, then, step));
    warnings.extend(users::several_users(then, step));
    Ok(warnings)
}

/// What lists are read without.
pub(crate) fn skipped(skipped: &[Skipped]) -> impl Iterator<Item = Warning> + '_ {
    skipped.iter().cloned().map(Warning::Skipped)
}

fn refused(refusal: &CommitError) -> Warning {
    Warning::Refused { reason: refusal.to_string(), fix: refusal.remedy().unwrap_or_default().into_owned() }
}

/// Whether the local routes that it asks for can be made.
fn routes_refused(netns: &Netns, step: &Step<'_>) -> Result<Option<Warning>> {
    if !step.keeps_routes {
        return Ok(None);
    }
    match RoutePlan::of(step.after, netns) {
        Err(
            error @ Error::Route(
                RouteError::CutsOff { .. } | RouteError::TooMany { .. } | RouteError::LoopbackDown { .. },
            ),
        ) => {
            let fix = error.remedy().unwrap_or_default().into_owned();
            Ok(Some(Warning::Refused { reason: error.to_string(), fix }))
        }
        wanted => wanted.map(|_| None),
    }
}

/// The prefixes of changed rules that no route makes local.
fn not_local(losses: &Losses<'_>, step: &Step<'_>) -> Option<Warning> {
    if step.keeps_routes {
        return None;
    }
    let locals: PrefixSet = losses.local_prefixes().into_iter().collect();
    let gained = step.plan.rules.iter().filter_map(services::gained).copied();
    let prefixes: Vec<Prefix> = steered_prefixes(gained).iter().filter(|it| !locals.covers(it)).copied().collect();
    let first = prefixes.first()?;
    let fix = format!("ip route add local {first} dev lo (or let inlet do it: inlet apply --routes)");
    Some(Warning::NotLocal { prefixes, fix })
}

/// What this host cannot do, or not now, of what the ruleset needs. What we may not find out is left to the commit.
fn unable(netns: &Netns, now: &Receivers, step: &Step<'_>) -> Option<Warning> {
    let own = step.after.services().has_own_binds() && !step.before.services().has_own_binds();
    let own = if own { now.sockets.require_own_range(netns).err() } else { None };
    let error = marks::refusal(step.after).or(own)?;
    Some(Warning::Refused { reason: error.to_string(), fix: error.remedy().unwrap_or_default().into_owned() })
}

/// The rules that open again what rules with a source refuse, when one of them is new.
fn opens_again(step: &Step<'_>) -> Vec<Warning> {
    let refuses = |rule: Rule| rule.verdict == Verdict::Refuse && rule.matching.source.is_some();
    // Without such rules there is nothing to collect the new ones for.
    if !step.after.rules().any(refuses) {
        return Vec::new();
    }
    let new: HashSet<Rule> = step.plan.rules.iter().filter_map(services::gained).copied().collect();
    let warning = |it: Reopened| {
        let refusing = *it.refusing.first()?;
        let fix = super::reopened_fix(step.after, &it.by, &refusing);
        Some(Warning::OpensAgain { by: it.by, refusing, count: it.refusing.len(), fix })
    };
    reopened_by(step.after, &new).into_iter().filter_map(warning).collect()
}

impl Warning {
    /// The next step, when there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoSocket { meant, .. } => {
                let give = "give it sockets with: inlet register, or describe them: inlet service set";
                Some(match meant {
                    Some(meant) => format!("did you mean {meant}? If not, {give}"),
                    None => give.to_owned(),
                })
            }
            Self::BoundAnswers { by_choice: true, .. } => Some(
                "leave it when the server answers from there by itself; else: inlet service set SERVICE --answers asked"
                    .to_owned(),
            ),
            Self::BoundAnswers { by_choice: false, .. } => Some("see what is missing with: inlet check".to_owned()),
            Self::Skipped(_) => Some("correct these lines; without `lenient = true` of the set they are errors".to_owned()),
            Self::OnlyOn { .. } => {
                Some("name the interface in the rule, or add a socket that is bound to none".to_owned())
            }
            Self::Refused { fix, .. }
            | Self::NotThere { fix, .. }
            | Self::NotLocal { fix, .. }
            | Self::LosesOnceLocal { fix, .. }
            | Self::OpensAgain { fix, .. }
            | Self::OpenToAnyone { fix, .. } => Some(fix.clone()),
            Self::SeveralUsers { service, .. } => Some(Stranger::remedy(service.as_str())),
            Self::Loses { .. } => None,
        }
    }
}
