//! The real command on real instances, each in a network namespace and a bpf filesystem of its own. Needs root.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

#[path = "../common/asked.rs"]
mod asked;
mod capabilities;
mod check;
mod described;
mod hook;
#[path = "../common/host.rs"]
mod host;
mod leave;
mod listeners;
mod policy;
mod routes;
mod sockets;
mod surprises;
mod udp;
mod users;

pub(crate) use host::{Host, PATIENCE, Ran, at, is_error, words};
