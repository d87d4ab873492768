//! Sockets and rules that are bound to interfaces: services that receive on some interfaces only, and what is bound to
//! a member of a VRF, on which no packet comes in.

use std::collections::BTreeSet;

use inlet_core::{Family, Interface, Kind, OnMissing, Rule, Service, Verdict};

use super::sockets::describe;
use super::{Checkup, Finding, Severity, Subject};
use crate::error::Result;
use crate::kernel::Links;
use crate::snapshot::receivers::Serves;

const VRF: &str = "packets of a VRF come in on the VRF, so rules give such a socket nothing";

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    let services = subject.ruleset.services();
    services.iter().for_each(|(_, service)| members(subject, service, found));
    for kind in subject.ruleset.kinds() {
        services.get(kind.service).into_iter().for_each(|service| only_on(subject, service, kind, found));
    }
    rules(subject, found)
}

/// Sockets that are bound to a member of a VRF.
fn members(subject: &Subject<'_>, service: &Service, found: &mut Checkup) {
    let sockets = subject.receivers.states(service);
    let of_member = |device: &crate::socket::Device| Some((device.name.clone(), device.vrf.clone()?));
    let members: Vec<_> = sockets.iter().filter_map(|it| Some((it, of_member(it.device.as_ref()?)?))).collect();
    let severity = if members.len() == sockets.len() { Severity::Error } else { Severity::Warning };
    found.add_each(&members, |(socket, (name, vrf))| Finding {
        severity,
        code: "socket-on-vrf-member",
        what: format!(
            "{} of service {} is bound to {name}, which belongs to VRF {vrf}",
            describe(socket),
            service.name
        ),
        why: VRF.to_owned(),
        fix: format!("let the server bind to {vrf} in place of {name}"),
    });
}

/// A service whose sockets of a kind are all bound to interfaces, and that has a rule for others.
fn only_on(subject: &Subject<'_>, service: &Service, kind: Kind, found: &mut Checkup) {
    let Kind { protocol, family, service: id } = kind;
    let Serves::Only(devices) = subject.receivers.serves(service, protocol, family == Family::V6) else { return };
    let elsewhere = |rule: &Rule| {
        let matching = &rule.matching;
        let is_of_kind = matching.protocol == protocol && matching.local.family() == family;
        let on = matching.iface.map(|iface| subject.ruleset.interface(iface).index);
        rule.verdict == Verdict::Service(id) && is_of_kind && on.is_none_or(|index| !devices.contains(&index))
    };
    let Some(rule) = subject.ruleset.rules().find(elsewhere) else { return };
    let names = names(subject, devices);
    let then = match service.on_missing {
        OnMissing::Refuse => "packets that come in elsewhere are refused",
        OnMissing::Pass => "packets that come in elsewhere are left to the kernel's ordinary lookup",
    };
    let what = format!(
        "all {protocol} sockets of service {} are bound to {names}, and rule `{}` is for other interfaces too",
        service.name,
        subject.ruleset.named(&rule)
    );
    let fix = "name the interface in the rule (--iface), or add a socket that is bound to none";
    found.add(Severity::Warning, "service-only-on-interfaces", what, then, fix);
}

fn names(subject: &Subject<'_>, devices: &BTreeSet<u32>) -> String {
    let names: Vec<String> = devices.iter().map(|index| subject.receivers.sockets.device(*index).name).collect();
    names.join(", ")
}

/// Rules that name a member of a VRF.
fn rules(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    if subject.ruleset.interfaces().is_empty() {
        return Ok(());
    }
    let links = Links::of(subject.location.netns())?;
    let member = |it: &Interface| Some((it.name, links.vrf_of(it.index)?.name.clone()));
    let members: Vec<_> = subject.ruleset.interfaces().iter().filter_map(member).collect();
    found.add_each(&members, |(name, vrf)| Finding {
        severity: Severity::Warning,
        code: "rule-for-vrf-member",
        what: format!("rules name interface {name}, which belongs to VRF {vrf}"),
        why: "packets of a VRF come in on the VRF, so these rules match nothing".to_owned(),
        fix: format!("name {vrf} in place of {name}"),
    });
    Ok(())
}
