//! The routes of a network namespace: whether an address is local, and the local routes that Inlet keeps.

mod lookup;

/// The number that marks the routes that Inlet makes (`rtm_protocol`); no routing daemon that is listed in
/// /etc/iproute2/rt_protos has it.
pub(crate) const PROTOCOL: u8 = 73;

pub use lookup::{Reach, Route};

pub(crate) use lookup::Routes;
