//! Warnings of a plan: what would not work as it is meant to.

use inlet::rules::{Moved, OnMissing};
use inlet::{Proposal, Warning};
use serde::Serialize;

use super::socket::{self, Socket};
use super::traffic::{entry, packets};
use super::{Screen, counted, palette::paint, printable};
use crate::failure::Failure;

/// Warnings as text, one a line.
pub(crate) fn warn(
    screen: &mut Screen<'_>,
    proposal: &Proposal,
    warnings: &[Warning],
    limit: usize,
) -> Result<(), Failure> {
    let Proposal { before, after, .. } = proposal;
    for warning in warnings.iter().take(limit) {
        let line = match warning {
            Warning::NoSocket { service, on_missing, moved } => {
                let packets = packets(before, after, moved);
                let then = match on_missing {
                    OnMissing::Refuse => "they would be refused",
                    OnMissing::Pass => "the kernel's ordinary lookup would decide",
                };
                format!("service {service} has no live socket for {packets}: {then}")
            }
            Warning::NotThere { service, reason, .. } => format!("service {service}: {reason}"),
            Warning::BoundAnswers { service, by_choice } => {
                let why = if *by_choice { "it says answers = bound" } else { "this host cannot do better" };
                format!(
                    "answers of service {service} over UDP leave from where its sockets are bound, and clients drop them: {why}"
                )
            }
            Warning::Loses { socket, moved } => {
                let [local, _, owners] = socket::words(socket);
                format!("{local}, {owners}, would not receive {} any more", packets(before, after, moved))
            }
        };
        writeln!(screen.out, "{}", paint(screen.palette.changed, format_args!("warning: {line}")))?;
        if let Some(fix) = warning.remedy() {
            writeln!(screen.out, "fix: {}", printable(fix))?;
        }
    }
    match warnings.len().saturating_sub(limit) {
        0 => Ok(()),
        more => Ok(writeln!(screen.out, "... and {}", counted(more, "more warning"))?),
    }
}

/// A warning as programs get it.
#[derive(Serialize)]
pub(crate) struct WarningReport<'a, T> {
    kind: &'static str,
    service: Option<String>,
    on_missing: Option<&'static str>,
    socket: Option<Socket>,
    traffic: Option<T>,
    reason: Option<String>,
    fix: Option<&'a str>,
}

pub(crate) fn reports<'a>(
    proposal: &'a Proposal,
    warnings: &'a [Warning],
) -> Vec<WarningReport<'a, impl Serialize + 'a>> {
    let traffic = |moved: &'a Moved| entry(proposal, moved);
    let report = |warning: &'a Warning| match warning {
        Warning::NoSocket { service, on_missing, moved } => WarningReport {
            kind: "no_socket",
            service: Some(service.to_string()),
            on_missing: Some(on_missing.as_str()),
            socket: None,
            traffic: Some(traffic(moved)),
            reason: None,
            fix: warning.remedy(),
        },
        Warning::NotThere { service, reason, .. } => WarningReport {
            kind: "not_there",
            service: Some(service.to_string()),
            on_missing: None,
            socket: None,
            traffic: None,
            reason: Some(reason.clone()),
            fix: warning.remedy(),
        },
        Warning::BoundAnswers { service, by_choice } => WarningReport {
            kind: "bound_answers",
            service: Some(service.to_string()),
            on_missing: None,
            socket: None,
            traffic: None,
            reason: Some(if *by_choice { "by_choice" } else { "unable" }.to_owned()),
            fix: warning.remedy(),
        },
        Warning::Loses { socket, moved } => WarningReport {
            kind: "loses",
            service: None,
            on_missing: None,
            socket: Some(socket.into()),
            traffic: Some(traffic(moved)),
            reason: None,
            fix: warning.remedy(),
        },
    };
    warnings.iter().map(report).collect()
}
