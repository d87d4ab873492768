//! Where the answer to a datagram leaves from.

use inlet::{AnswerFrom, Explanation};
use serde::Serialize;

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
        AnswerFrom::Bound { socket, .. } => (socket, "socket"),
    };
    Some(Answer { from: from.to_string(), by })
}

/// The answer in words.
pub(super) fn line(explanation: &Explanation) -> Option<String> {
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
        AnswerFrom::Bound { socket, by_choice } => {
            let why = match by_choice {
                true => "the service says answers = bound",
                false => "this host cannot send it from where it was asked; see: inlet check",
            };
            format!("leaves from {socket}, and a client that asked {asked} drops it: {why}")
        }
    })
}
