//! Answers over UDP: whether they leave from where they were asked, and whether what is between lets them through.

use super::{Checkup, Severity, Subject, tracked};
use crate::answers::InFront;
use crate::error::Result;
use crate::snapshot::{AnswersState, Snapshot};

pub(super) fn check(subject: &Subject<'_>, state: Option<&AnswersState>, found: &mut Checkup) {
    match state {
        None | Some(AnswersState::Bound) => {}
        Some(AnswersState::Unable) => unable(found),
        Some(AnswersState::Asked { uncovered, counters, .. }) => {
            if !uncovered.is_empty() {
                not_covered(uncovered, counters.uncovered, found);
            }
            tracked::check(subject, found);
        }
    }
}

/// Programs of others that see what leaves before the one that sets ports, and may keep it from that.
pub(super) fn behind(snapshot: &Snapshot, found: &mut Checkup) -> Result<()> {
    let Some(in_front) = snapshot.in_front_of_answers()? else {
        found
            .unchecked
            .push("other programs on interfaces, before the one that sets ports: to list them takes root".to_owned());
        return Ok(());
    };
    for InFront { interface, ids } in in_front {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        found.add(
            Severity::Note,
            "udp-answers-behind",
            format!("other programs see what leaves through {interface} before Inlet's does: id {}", ids.join(", ")),
            "one that ends with TCX_PASS keeps Inlet's from setting the port of answers over UDP; with TCX_NEXT it does not",
            "look at them with: bpftool net; attach them after Inlet's (BPF_F_AFTER), or let them end with TCX_NEXT",
        );
    }
    Ok(())
}

/// The host could not do it when the ruleset came into force.
fn unable(found: &mut Checkup) {
    found.add(
        Severity::Warning,
        "udp-answers-unable",
        "answers over UDP leave from where sockets are bound: this host cannot send them from where they were asked"
            .to_owned(),
        "clients drop an answer from elsewhere than they asked",
        "see what is missing with: inlet service set SERVICE --answers asked",
    );
}

/// Interfaces that came since the last commit, while nobody watched.
fn not_covered(names: &[String], answers: u64, found: &mut Checkup) {
    found.add(
        Severity::Warning,
        "udp-answers-uncovered",
        format!("answers over UDP leave from the port of their socket through {}", names.join(", ")),
        &format!(
            "these interfaces came later, and clients drop an answer from a port that they did not ask: {answers} such answers so far"
        ),
        "inlet watch",
    );
}
