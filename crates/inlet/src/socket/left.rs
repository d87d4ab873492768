//! What is left on sockets that are being drained.

use std::collections::BTreeMap;
use std::time::Duration;

use inlet_core::Protocol;

use super::list::Listed;
use crate::error::Result;
use crate::state::{Stays, flow_time};

/// What is left on sockets that are being drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Flows over UDP.
    pub flows: usize,
    /// How long ago the first datagram of the youngest of them came.
    pub youngest: Option<Duration>,
    /// Connections that the program has not accepted yet.
    pub connections: u32,
}

impl Left {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        self.flows == 0 && self.connections == 0
    }

    /// It and what is left elsewhere.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            flows: self.flows + other.flows,
            youngest: self.youngest.into_iter().chain(other.youngest).min(),
            connections: self.connections + other.connections,
        }
    }
}

/// What is left on each of these sockets, by cookie. `seconds` is for how long a silent flow of a service stays, by its number;
/// 0: not at all.
pub(crate) fn left_on(stays: &Stays, sockets: &[Listed], seconds: impl Fn(u16) -> u16) -> Result<BTreeMap<u64, Left>> {
    let waiting = |it: &Listed| if it.bound.protocol == Protocol::Tcp { it.queue } else { 0 };
    let on = |it: &Listed| (it.cookie, Left { connections: waiting(it), ..Left::default() });
    let mut left: BTreeMap<u64, Left> = sockets.iter().map(on).collect();
    let bound: BTreeMap<u64, &Listed> = sockets.iter().map(|listed| (listed.cookie, listed)).collect();
    let now = flow_time();
    for stay in stays.all()? {
        let (Some(listed), Some(left)) = (bound.get(&stay.cookie), left.get_mut(&stay.cookie)) else { continue };
        let silent = now.saturating_sub(stays.last_seen(&stay, listed.bound.addr)?);
        if silent < Duration::from_secs(seconds(stay.service).into()) {
            let age = now.saturating_sub(stay.since);
            *left = left.with(Left { flows: 1, youngest: Some(age), connections: 0 });
        }
    }
    Ok(left)
}
