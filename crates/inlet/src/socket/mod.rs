//! Sockets: which can be adopted, where they lie, and who has them open.

mod adopt;
mod inspect;
mod lanes;
mod list;
mod options;
mod owner;
mod places;
mod process;
mod systemd;

pub use adopt::{Adopted, Adoption};
pub use inspect::{Refusal, Refused};
pub use owner::Owner;

pub use inlet_core::{Endpoint, EndpointError};

pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, cookie_in};
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::pktinfo;
pub(crate) use places::{Place, Places};
pub(crate) use process::each_socket;
