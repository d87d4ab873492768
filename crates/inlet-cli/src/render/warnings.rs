//! Warnings of a plan or a commit: what does not work as it is meant to.

use inlet::rules::{Moved, OnMissing, Prefix, Ruleset};
use inlet::{Device, Warning};
use serde::Serialize;

use super::socket::{self, Socket};
use super::traffic::{entry, packets};
use super::{Screen, counted, palette::paint, printable};
use crate::failure::Failure;

/// So many prefixes or areas a line names.
const NAMED: usize = 8;

/// Warnings as text, one a line.
pub(crate) fn warn(
    screen: &mut Screen<'_>,
    before: &Ruleset,
    after: &Ruleset,
    warnings: &[Warning],
    limit: usize,
) -> Result<(), Failure> {
    for warning in warnings.iter().take(limit) {
        let line = line(before, after, warning);
        writeln!(screen.out, "{}", paint(screen.palette.changed, format_args!("warning: {}", printable(&line))))?;
        if let Some(fix) = warning.remedy() {
            writeln!(screen.out, "fix: {}", printable(&fix))?;
        }
    }
    match warnings.len().saturating_sub(limit) {
        0 => Ok(()),
        more => Ok(writeln!(screen.out, "... and {}", counted(more, "more warning"))?),
    }
}

fn line(before: &Ruleset, after: &Ruleset, warning: &Warning) -> String {
    let packets = |moved: &Moved| packets(before, after, moved);
    let who = |socket| {
        let [local, _, owners] = socket::words(socket);
        format!("{local}, {owners},")
    };
    match warning {
        Warning::Skipped(skipped) => skipped.to_string(),
        Warning::Refused { reason, .. } => format!("this is refused: {reason}"),
        Warning::NotThere { service, reason, .. } => format!("service {service}: {reason}"),
        Warning::NotLocal { prefixes, .. } => {
            let [are, their] = if prefixes.len() == 1 { ["is", "its"] } else { ["are", "their"] };
            format!("{} {are} not local to this host: {their} packets are not delivered here", some(prefixes))
        }
        Warning::NoSocket { service, on_missing, moved, .. } => {
            format!("service {service} has no live socket for {}: {}", packets(moved), then(*on_missing))
        }
        Warning::OnlyOn { service, on_missing, interfaces, moved } => {
            let names: Vec<String> = interfaces.iter().map(device).collect();
            let then = then(*on_missing);
            let names = names.join(", ");
            format!("service {service} has sockets for {} on {names} only: elsewhere {then}", packets(moved))
        }
        Warning::BoundAnswers { service, by_choice } => {
            let why = if *by_choice { "it says answers = bound" } else { "this host cannot do better" };
            format!(
                "answers of service {service} over UDP leave from where its sockets are bound, and clients drop them: {why}"
            )
        }
        Warning::Loses { socket, lost, is_all, answers_pass } => {
            let but = if *answers_pass { ", but for answers to what it sent" } else { "" };
            format!("{} loses {}{but}", who(socket), areas(lost, *is_all, &packets))
        }
        Warning::LosesOnceLocal { socket, moved, .. } => {
            format!("{} loses {} as soon as these addresses are local", who(socket), packets(moved))
        }
        Warning::OpensAgain { by, refusing, count, .. } => {
            let others = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            format!("`{}` lets in what `{}`{others} would refuse", after.named(by), after.named(refusing))
        }
        Warning::OpenToAnyone { service, listen, moved, .. } => {
            let what = moved.as_ref().map_or_else(|| format!("what rules give to service {service}"), packets);
            format!("any local user can listen on {listen} and so receive {what}")
        }
        Warning::SeveralUsers { service, users } => {
            format!(
                "the sockets of service {service} belong to users {}: each gets a part of its packets",
                users.join(" and ")
            )
        }
    }
}

fn then(on_missing: OnMissing) -> &'static str {
    match on_missing {
        OnMissing::Refuse => "they are refused",
        OnMissing::Pass => "the kernel's ordinary lookup decides",
    }
}

fn device(device: &Device) -> String {
    match &device.vrf {
        Some(vrf) => format!("{} (of VRF {vrf}, where nothing comes in on it)", device.name),
        None => device.name.clone(),
    }
}

fn some(prefixes: &[Prefix]) -> String {
    let mut named: Vec<String> = prefixes.iter().take(NAMED).map(Prefix::to_string).collect();
    if prefixes.len() > NAMED {
        named.push(format!("and {} more", prefixes.len() - NAMED));
    }
    named.join(", ")
}

/// The packets that a listener loses.
fn areas(lost: &[Moved], is_all: bool, packets: &dyn Fn(&Moved) -> String) -> String {
    let mut texts: Vec<String> = lost.iter().take(NAMED).map(packets).collect();
    match (lost.len() - texts.len(), is_all) {
        (0, true) => {}
        (more, true) => texts.push(format!("and {more} more")),
        (_, false) => texts.push("and more".to_owned()),
    }
    texts.join(", ")
}

/// A warning as programs get it.
#[derive(Serialize)]
pub(crate) struct WarningReport<T> {
    kind: &'static str,
    service: Option<String>,
    on_missing: Option<&'static str>,
    socket: Option<Socket>,
    traffic: Option<T>,
    lost: Vec<T>,
    prefixes: Vec<String>,
    interfaces: Vec<String>,
    rules: Vec<String>,
    listen: Option<String>,
    users: Vec<String>,
    reason: Option<String>,
    fix: Option<String>,
}

pub(crate) fn reports<'a>(
    before: &'a Ruleset,
    after: &'a Ruleset,
    warnings: &'a [Warning],
) -> Vec<WarningReport<impl Serialize + 'a>> {
    let traffic = |moved: &'a Moved| entry(before, after, moved);
    let report = |warning: &'a Warning| {
        let blank = WarningReport {
            kind: "",
            service: None,
            on_missing: None,
            socket: None,
            traffic: None,
            lost: Vec::new(),
            prefixes: Vec::new(),
            interfaces: Vec::new(),
            rules: Vec::new(),
            listen: None,
            users: Vec::new(),
            reason: None,
            fix: warning.remedy(),
        };
        match warning {
            Warning::Skipped(skipped) => WarningReport { kind: "skipped", reason: Some(skipped.to_string()), ..blank },
            Warning::Refused { reason, .. } => WarningReport { kind: "refused", reason: Some(reason.clone()), ..blank },
            Warning::NotThere { service, reason, .. } => WarningReport {
                kind: "not_there",
                service: Some(service.to_string()),
                reason: Some(reason.clone()),
                ..blank
            },
            Warning::NotLocal { prefixes, .. } => {
                WarningReport { kind: "not_local", prefixes: prefixes.iter().map(Prefix::to_string).collect(), ..blank }
            }
            Warning::NoSocket { service, on_missing, moved, .. } => WarningReport {
                kind: "no_socket",
                service: Some(service.to_string()),
                on_missing: Some(on_missing.as_str()),
                traffic: Some(traffic(moved)),
                ..blank
            },
            Warning::OnlyOn { service, on_missing, interfaces, moved } => WarningReport {
                kind: "only_on",
                service: Some(service.to_string()),
                on_missing: Some(on_missing.as_str()),
                traffic: Some(traffic(moved)),
                interfaces: interfaces.iter().map(|device| device.name.clone()).collect(),
                ..blank
            },
            Warning::BoundAnswers { service, by_choice } => WarningReport {
                kind: "bound_answers",
                service: Some(service.to_string()),
                reason: Some(if *by_choice { "by_choice" } else { "unable" }.to_owned()),
                ..blank
            },
            Warning::Loses { socket, lost, answers_pass, .. } => WarningReport {
                kind: "loses",
                reason: answers_pass.then(|| "answers_pass".to_owned()),
                socket: Some(socket.into()),
                traffic: lost.first().map(traffic),
                lost: lost.iter().map(traffic).collect(),
                ..blank
            },
            Warning::LosesOnceLocal { socket, moved, .. } => WarningReport {
                kind: "loses_once_local",
                socket: Some(socket.into()),
                traffic: Some(traffic(moved)),
                ..blank
            },
            Warning::OpensAgain { by, refusing, .. } => WarningReport {
                kind: "opens_again",
                rules: [by, refusing].iter().map(|rule| after.named(rule).to_string()).collect(),
                ..blank
            },
            Warning::OpenToAnyone { service, listen, moved, .. } => WarningReport {
                kind: "open_to_anyone",
                service: Some(service.to_string()),
                listen: Some(listen.to_string()),
                traffic: moved.as_ref().map(traffic),
                ..blank
            },
            Warning::SeveralUsers { service, users } => WarningReport {
                kind: "several_users",
                service: Some(service.to_string()),
                users: users.clone(),
                ..blank
            },
        }
    };
    warnings.iter().map(report).collect()
}
