//! Where the answer to a datagram leaves from.

use std::net::SocketAddr;

use inlet_core::{Answers, Packet, Protocol};

use super::{Explainer, Outcome};
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

impl Explainer<'_> {
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
        if !by_choice && self.notes_flows || !sets_address && !sets_port {
            return Some(AnswerFrom::Asked { sets_address, sets_port });
        }
        Some(AnswerFrom::Bound { socket, by_choice })
    }
}
