//! The routes of a network namespace: whether an address is local, and the local routes that Inlet keeps.

mod entry;
mod in_use;
mod judge;
mod keep;
mod model;
mod parts;
mod policy;
mod table;

/// The number that marks the routes that Inlet makes (`rtm_protocol`); no routing daemon that is listed in
/// /etc/iproute2/rt_protos has it.
pub(crate) const PROTOCOL: u8 = 73;

pub use entry::{Reach, Route};
pub use judge::{Mute, Routing};
pub use keep::RouteChanges;
pub use model::Unless;

pub(crate) use keep::{RoutePlan, remove_all};
pub(crate) use model::Model;
pub(crate) use parts::Part;
pub(crate) use table::RouteTable;
