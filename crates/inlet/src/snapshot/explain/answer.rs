//! Where the answer to a datagram leaves from.

use std::net::SocketAddr;

use inlet_core::{Answers, Packet, Protocol, Rule, Verdict};

use super::{Explainer, Outcome};
use crate::error::Result;
use crate::route::Mute;
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
    /// From the address that was asked and the port of the socket, where it leaves through the interface that the datagram
    /// came in on: that one has no program that sets the port.
    Uncovered {
        /// The address and port that it leaves from.
        from: SocketAddr,
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
#[derive(Clone, Debug)]
pub(super) struct Able {
    /// Whether they can leave from where they were asked.
    pub(super) notes_flows: bool,
    /// Whether those to clients of the host pass.
    pub(super) passes_clients: bool,
    /// The interfaces that lack the program which sets ports.
    pub(super) uncovered: Vec<String>,
}

impl Able {
    /// The program in force.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self> {
        let (notes_flows, passes_clients) = (snapshot.notes_flows()?, snapshot.passes_clients()?);
        Ok(Self { notes_flows, passes_clients, uncovered: snapshot.uncovered()? })
    }

    /// A host that can do all of it.
    pub(super) fn whole() -> Self {
        Self { notes_flows: true, passes_clients: true, uncovered: Vec::new() }
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

    /// Where the answer leaves from, when it is known which socket gives it and that one leaves at all.
    pub(super) fn answer_from(
        &self,
        packet: &Packet,
        outcome: Outcome,
        socket: Option<&SocketState>,
        answers: Option<Answers>,
        mute: Option<&Mute>,
    ) -> Option<AnswerFrom> {
        let (cookie, socket) = (socket?.cookie, socket?.bound()?);
        if packet.protocol != Protocol::Udp || outcome != Outcome::Socket || mute == Some(&Mute::NoWayBack) {
            return None;
        }
        let by_choice = answers == Some(Answers::Bound);
        let sets_address = socket.ip().to_canonical() != packet.local.ip().to_canonical();
        let sets_port = socket.port() != packet.local.port();
        if !by_choice && self.able.notes_flows || !sets_address && !sets_port {
            let sends = || self.receivers.sockets.get(cookie).is_some_and(|listed| listed.transparent == Some(true));
            return (mute.is_none() || sends()).then(|| self.as_asked(packet, socket, sets_address, sets_port));
        }
        Some(AnswerFrom::Bound { socket, by_choice })
    }

    /// An answer that leaves as asked, but for its port where the interface cannot set it.
    fn as_asked(&self, packet: &Packet, socket: SocketAddr, sets_address: bool, sets_port: bool) -> AnswerFrom {
        let lacks = |name: &str| self.able.uncovered.iter().any(|it| it == name);
        match sets_port && self.links.get(packet.ifindex).is_some_and(|link| lacks(&link.name)) {
            true => AnswerFrom::Uncovered { from: SocketAddr::new(packet.local.ip(), socket.port()) },
            false => AnswerFrom::Asked { sets_address, sets_port },
        }
    }
}
