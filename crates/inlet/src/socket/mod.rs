//! Sockets: which can be adopted, where they lie, and who has them open.

mod free;
mod inspect;
mod lanes;
mod list;
mod live;
mod moving;
mod options;
mod owner;
mod places;
pub(crate) mod process;
mod room;
pub(crate) mod systemd;

pub use live::{Device, SocketState};
pub use owner::Owner;

pub(crate) use inspect::{Candidate, Seen, Traits, Wanted};
pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, Slot, cookie_in, empty, sockets_in};
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::pktinfo;
pub(crate) use places::{Full, Place, Places};
pub(crate) use process::each_socket;
pub(crate) use room::{Room, finish as finish_retired};
