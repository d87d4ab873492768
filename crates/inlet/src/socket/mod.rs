//! Sockets: which can be adopted, where they lie, and who has them open.

mod adopt;
mod endpoint;
mod free;
mod inspect;
mod lanes;
mod list;
mod moving;
mod options;
mod owner;
mod places;
mod process;
mod room;
mod systemd;

pub use adopt::{Adopted, Adoption};
pub use endpoint::{Endpoint, EndpointError};
pub use inspect::{Refusal, Refused};
pub use owner::Owner;

pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, empty, sockets_in};
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::pktinfo;
pub(crate) use places::{Full, Place, Places};
pub(crate) use process::each_socket;
pub(crate) use room::Room;
