//! Whether the flow of a datagram stays on a socket.

use inlet::{Explanation, StaysOn};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Sticky {
    seconds: u16,
    on: Option<On>,
}

/// The socket of a flow by its cookie, and the times of the flow in seconds.
#[derive(Serialize)]
struct On {
    cookie: u64,
    age: u64,
    silent: u64,
}

/// It as programs get it.
pub(super) fn report(explanation: &Explanation) -> Option<Sticky> {
    let stays = explanation.stays.as_ref()?;
    let on = |on: &StaysOn| On { cookie: on.socket.cookie, age: on.age.as_secs(), silent: on.silent.as_secs() };
    Some(Sticky { seconds: stays.seconds, on: stays.on.as_ref().map(on) })
}

/// It in words.
pub(super) fn line(explanation: &Explanation) -> Option<String> {
    let stays = explanation.stays.as_ref()?;
    let seconds = stays.seconds;
    Some(match &stays.on {
        Some(StaysOn { socket, age, silent }) => format!(
            "this flow stays on the socket with cookie {}: it is {} s old, silent for {} of at most {seconds} s",
            socket.cookie,
            age.as_secs(),
            silent.as_secs()
        ),
        None => format!("a new flow, which then stays on its socket until it is silent for {seconds} s"),
    })
}
