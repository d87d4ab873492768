//! Where the answer to a datagram leaves from.

use inlet::rules::InterfaceName;
use inlet::{AnswerFrom, Explanation};
use serde::Serialize;

use super::Question;

#[derive(Serialize)]
pub(super) struct Answer {
    from: String,
    by: &'static str,
}

/// The answer as programs get it.
pub(super) fn report(explanation: &Explanation) -> Option<Answer> {
    let (from, by) = match explanation.answer? {
        AnswerFrom::Asked { sets_address: false, sets_port: false } => (explanation.packet.local, "socket"),
        AnswerFrom::Asked { .. } => (explanation.packet.local, "inlet"),
        AnswerFrom::Uncovered { from } => (from, "uncovered"),
        AnswerFrom::Bound { socket, .. } => (socket, "socket"),
    };
    Some(Answer { from: from.to_string(), by })
}

/// The answer in words.
pub(super) fn line(question: &Question<'_>, explanation: &Explanation) -> Option<String> {
    let asked = explanation.packet.local;
    Some(match explanation.answer? {
        AnswerFrom::Asked { sets_address, sets_port } => {
            let who = match (sets_address, sets_port) {
                (false, false) => "the socket is bound there",
                (true, false) => "inlet sets the address",
                (false, true) => "inlet sets the port",
                (true, true) => "inlet sets the address and the port",
            };
            format!("leaves from {asked}: {who}")
        }
        AnswerFrom::Uncovered { from } => {
            let iface = question.iface.map_or("that interface", InterfaceName::as_str);
            format!(
                "leaves from {from} through {iface}, its likely way out, and a client that asked {asked} drops it: that \
                 interface came later, and has no program that sets the port until: inlet watch"
            )
        }
        AnswerFrom::Bound { socket, by_choice } => {
            let why = match by_choice {
                true => "the service says answers = bound",
                false => "this host cannot send it from where it was asked; see: inlet check",
            };
            format!("leaves from {socket}, and a client that asked {asked} drops it: {why}")
        }
    })
}
