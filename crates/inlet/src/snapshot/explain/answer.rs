//! Where the answer to a datagram leaves from.

use std::net::SocketAddr;

use inlet_core::{Answers, Packet, Protocol, Rule, Verdict};

use super::{Explainer, Outcome};
use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::socket::SocketState;

/// Where the answer to a datagram leaves from, whatever the server does, unless it chooses the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFrom {
    /// From where the datagram was sent to.
    Asked {
        /// Whether the source address is set on the way out.
        sets_address: bool,
        /// Whether the source port is set on the way out.
        sets_port: bool,
    },
    /// From where the socket is bound.
    Bound {
        /// The address and port of the socket; the kernel chooses an address where it has none.
        socket: SocketAddr,
        /// Whether this is as the service says, or this host cannot do better.
        by_choice: bool,
    },
}

/// What the program does about answers over UDP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Able {
    /// Whether they can leave from where they were asked.
    pub(super) notes_flows: bool,
    /// Whether those to clients of the host pass.
    pub(super) passes_clients: bool,
}

impl Able {
    /// The program in force.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self> {
        Ok(Self { notes_flows: snapshot.notes_flows()?, passes_clients: snapshot.passes_clients()? })
    }
}

impl Explainer<'_> {
    /// Whether a datagram would pass if it answered a client of the host.
    pub(super) fn passes_if_answer(&self, packet: &Packet, rule: Option<Rule>) -> bool {
        let takes = packet.protocol == Protocol::Udp && rule.is_some_and(|rule| rule.verdict != Verdict::Pass);
        takes
            && self.able.passes_clients
            && self.ruleset.ports_of_clients().iter().any(|ports| ports.contains(packet.local.port()))
    }

    /// Where the answer leaves from, when it is known which socket gives it.
    pub(super) fn answer_from(
        &self,
        packet: &Packet,
        outcome: Outcome,
        socket: Option<&SocketState>,
        answers: Option<Answers>,
    ) -> Option<AnswerFrom> {
        let socket = socket?.local?.addr();
        if packet.protocol != Protocol::Udp || outcome != Outcome::Socket {
            return None;
        }
        let by_choice = answers == Some(Answers::Bound);
        let sets_address = socket.ip().to_canonical() != packet.local.ip().to_canonical();
        let sets_port = socket.port() != packet.local.port();
        if !by_choice && self.able.notes_flows || !sets_address && !sets_port {
            return Some(AnswerFrom::Asked { sets_address, sets_port });
        }
        Some(AnswerFrom::Bound { socket, by_choice })
    }
}
