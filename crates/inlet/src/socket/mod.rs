//! Sockets: which can be adopted, where they lie, and who has them open.

mod adopt;
mod endpoint;
mod inspect;
mod lanes;
mod list;
mod live;
mod options;
mod owner;
mod places;
mod process;
mod systemd;

pub use adopt::{Adopted, Adoption};
pub use endpoint::{Endpoint, EndpointError};

pub use live::SocketState;
pub use owner::Owner;

pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, cookie_in};
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::pktinfo;
pub(crate) use places::{Place, Places};
pub(crate) use process::each_socket;
