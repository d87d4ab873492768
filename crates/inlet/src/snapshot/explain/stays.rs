//! Whether the flow of a datagram stays on a socket.

use std::time::Duration;

use inlet_core::{Packet, Protocol, Service, ServiceId};

use super::Explainer;
use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::socket::SocketState;
use crate::state::{Access, FlowEnds, Stays, flow_time};

/// That flows of the service stay on their sockets, and where this one does.
#[derive(Clone, Debug)]
pub struct FlowStays {
    /// For how many seconds a silent flow stays.
    pub seconds: u16,
    /// Where this flow stays; `None` for a new one, and for one that was silent for too long.
    pub on: Option<StaysOn>,
}

/// Where a flow stays.
#[derive(Clone, Debug)]
pub struct StaysOn {
    /// The socket.
    pub socket: SocketState,
    /// How long ago its first datagram came.
    pub age: Duration,
    /// For how long it has been silent, in both directions where answers leave as asked.
    pub silent: Duration,
}

impl Explainer<'_> {
    /// What is kept of the flow of a packet.
    pub(super) fn stays(&self, packet: &Packet, service: Option<(ServiceId, &Service)>) -> Result<Option<FlowStays>> {
        let Some((id, service)) = service.filter(|(_, it)| it.sticky.is_on() && packet.protocol == Protocol::Udp)
        else {
            return Ok(None);
        };
        let seconds = service.sticky.seconds();
        let on = self.snapshot.map(|snapshot| self.stays_on(snapshot, packet, id, seconds)).transpose()?.flatten();
        Ok(Some(FlowStays { seconds, on }))
    }

    fn stays_on(&self, snapshot: &Snapshot, packet: &Packet, id: ServiceId, seconds: u16) -> Result<Option<StaysOn>> {
        let Some(stays) = Stays::open(&snapshot.files.sticky(), &snapshot.files.answers(), Access::Read)? else {
            return Ok(None);
        };
        let ends = FlowEnds { remote: packet.remote, own: packet.local };
        let Some(stay) = stays.get(ends)?.filter(|stay| stay.service == id.get()) else { return Ok(None) };
        let Some(listed) = self.receivers.sockets.get(stay.cookie) else { return Ok(None) };
        let silent = flow_time().saturating_sub(stays.last_seen(&stay, listed.bound.addr)?);
        let age = flow_time().saturating_sub(stay.since);
        let socket = self.receivers.sockets.describe_listed(&listed);
        Ok((silent < Duration::from_secs(seconds.into())).then_some(StaysOn { socket, age, silent }))
    }
}
