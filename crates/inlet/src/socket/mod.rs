//! Sockets: which can be adopted, where they lie, and who has them open.

mod asked;
mod fionread;
mod free;
mod inspect;
mod lanes;
mod left;
mod list;
mod live;
mod moving;
mod name;
mod options;
mod own_range;
mod owner;
mod peers;
mod pidfile;
mod places;
pub(crate) mod process;
mod room;
mod stranger;
pub(crate) mod systemd;

pub use asked::{AskedSocket, Question, Received};
pub use left::Left;
pub use live::{Adopted, Device, SocketState};
pub use owner::Owner;
pub use pidfile::read_pidfile;

pub(crate) use moving::copy as copy_sockets;
pub(crate) use name::shown;

pub(crate) use fionread::counts_nothing;
pub(crate) use inspect::{Candidate, Filter, Seen, Traits};
pub(crate) use lanes::{Lane, LaneReader, Lanes, LiveSocket, Slot, cookie_in, empty, sockets_in};
pub(crate) use left::left_on;
pub(crate) use list::{Listed, Sockets};
pub(crate) use options::{answer_from_anywhere, bound_to_interfaces, pktinfo};
pub(crate) use peers::peers;
pub(crate) use places::{Fill, Full, Place, Places};
pub(crate) use process::each_socket;
pub(crate) use room::{Room, finish as finish_retired};
pub use stranger::Stranger;
pub(crate) use stranger::strangers;
pub(crate) use systemd::each as each_from_systemd;
