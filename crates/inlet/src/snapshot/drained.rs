//! Sockets that are being drained, as a reader sees them.

use inlet_core::{ServiceId, ServiceName};

use super::{Receivers, Snapshot};
use crate::error::Result;
use crate::socket::{Left, Listed, SocketState, left_on};
use crate::state::{Access, Stays};

/// A socket that is being drained: it gets no new flows and connections, and keeps those that it has.
#[derive(Clone, Debug)]
pub struct Drained {
    /// The socket.
    pub socket: SocketState,
    /// The service that it is drained from; `None` when that is gone.
    pub service: Option<ServiceName>,
    /// What is left on it.
    pub left: Left,
}

impl Snapshot {
    /// The sockets that are being drained, in order of protocol and address.
    ///
    /// # Errors
    /// Those of reading the maps, and of asking the kernel for its sockets.
    pub fn drained(&self) -> Result<Vec<Drained>> {
        self.drained_among(&self.receivers()?)
    }

    /// The same among sockets that are listed already.
    pub(super) fn drained_among(&self, receivers: &Receivers) -> Result<Vec<Drained>> {
        let Some(stays) = Stays::open(&self.files.sticky(), &self.files.answers(), Access::Read)? else {
            return Ok(Vec::new());
        };
        let (listed, services) = (&receivers.sockets, self.ruleset.services());
        let drained = stays.maps.drained()?.into_iter();
        let mut drained: Vec<(Listed, Option<ServiceId>)> =
            drained.filter_map(|(cookie, service)| Some((listed.get(cookie)?, service))).collect();
        if drained.is_empty() {
            return Ok(Vec::new());
        }
        drained.sort_by_key(|(listed, _)| (listed.bound, listed.cookie));
        let service = |id: ServiceId| services.get(id);
        let seconds = |number| ServiceId::new(number).and_then(service).map_or(0, |it| it.sticky.seconds());
        let sockets: Vec<Listed> = drained.iter().map(|(listed, _)| *listed).collect();
        let left = left_on(&stays, &sockets, seconds)?;
        let of = |(socket, id): (Listed, Option<ServiceId>)| Drained {
            socket: listed.describe_listed(&socket),
            service: id.and_then(service).map(|service| service.name.clone()),
            left: left.get(&socket.cookie).copied().unwrap_or_default(),
        };
        Ok(drained.into_iter().map(of).collect())
    }
}
