//! Sockets: which can be adopted, where they lie, and who has them open.

mod inspect;
mod lanes;
mod list;
mod live;
mod options;
mod owner;
mod places;
pub(crate) mod process;
pub(crate) mod systemd;

pub use live::SocketState;
pub use owner::Owner;

pub(crate) use inspect::{Candidate, Seen, Traits, Wanted};
pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, Slot, cookie_in};
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::pktinfo;
pub(crate) use places::{Full, Place, Places};
pub(crate) use process::each_socket;
