//! Other users of the host: descriptions that their sockets fit, and services that have sockets of several users.

use inlet_core::{Change, Rule, Service, ServiceChange, ServiceId, Verdict};

use super::services::{gained, moved};
use super::{Step, Warning};
use crate::kernel::Netns;
use crate::snapshot::{Receivers, open};
use crate::socket::Stranger;

/// The services to which the step gives a description that any socket fits, or packets by such a one for ports that only
/// privileged programs can open.
pub(super) fn open_to_anyone(netns: &Netns, then: &Receivers, step: &Step<'_>) -> Vec<Warning> {
    let start = open::unprivileged_from(netns);
    let warning = |(id, service): (ServiceId, &Service)| {
        let description = service.description.as_ref()?;
        let listen = open::open_address(description, start)?;
        if !is_described_anew(step, service) && !step.plan.rules.iter().any(|change| opens(change, id, start)) {
            return None;
        }
        let rule = open::given_by(step.after, id, start);
        Some(Warning::OpenToAnyone {
            service: service.name.clone(),
            listen,
            moved: rule.and_then(|rule| moved(step.after, rule, None)),
            fix: open::fix(service, description, then),
        })
    };
    step.after.services().iter().filter_map(warning).collect()
}

/// Whether a change gives a service packets for ports that only privileged programs can open.
fn opens(change: &Change, service: ServiceId, start: u16) -> bool {
    let opens =
        |rule: &Rule| rule.verdict == Verdict::Service(service) && open::is_privileged(rule.matching.ports, start);
    gained(change).is_some_and(opens)
}

fn is_described_anew(step: &Step<'_>, service: &Service) -> bool {
    let changes =
        |change: &ServiceChange| matches!(change, ServiceChange::Described { name, .. } if *name == service.name);
    step.plan.services.iter().any(changes)
}

/// The services that find sockets of several users by the descriptions that the step gives them.
pub(super) fn several_users(then: &Receivers, step: &Step<'_>) -> Vec<Warning> {
    let warning = |(_, service): (ServiceId, &Service)| {
        let users = then.users(service);
        let users: Vec<String> = users.iter().map(|user| Stranger(*user).to_string()).collect();
        (users.len() > 1).then(|| Warning::SeveralUsers { service: service.name.clone(), users })
    };
    let described = |(_, service): &(ServiceId, &Service)| is_described_anew(step, service);
    step.after.services().iter().filter(described).filter_map(warning).collect()
}
