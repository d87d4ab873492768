//! What goes on beside an instance and holds nothing: a process that waits for confirmation, one that watches for UDP
//! binds, and the command whose sockets go to a service. Each may be killed at any time.

mod grantd;
mod group;
mod run;
mod waiter;
mod watch;

pub use self::grantd::{
    Ask, DEFAULT_GRANTD, Done, all_sockets_of_process, ask_grantd, lacks_rights, listen_for_requests,
    listener_from_systemd, serve_grants, sockets_of_process, sockets_of_systemd,
};
pub use self::run::{Exit, Leftovers, RunOptions, run};
pub use self::waiter::{Waiter, await_confirmation, wait_in_background};
pub use self::watch::Watcher;
