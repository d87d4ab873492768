//! Changes that are granted: a process with the rights makes them for callers who have none. It holds no state, and may
//! be killed at any time. What a caller is, the kernel says; what it may, the ruleset in force says.

mod caller;
mod client;
mod decide;
mod message;
mod server;

pub use self::client::{all_sockets_of_process, ask_grantd, lacks_rights, sockets_of_process, sockets_of_systemd};
pub use self::message::{Ask, Done};
pub use self::server::{listen_for_requests, listener_from_systemd, serve_grants};

/// Where it listens, unless told otherwise.
pub const DEFAULT_GRANTD: &str = "/run/inlet/grantd.sock";
