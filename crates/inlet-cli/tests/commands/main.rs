//! The real command on real instances, each in a network namespace and a bpf filesystem of its own. Needs root.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

mod all;
mod boot;
mod capabilities;
mod change;
mod check;
mod confirm;
mod described;
mod hook;
#[path = "../common/host.rs"]
mod host;
mod import;
mod leave;
mod listeners;
mod newer;
mod plan;
mod policy;
mod routes;
mod show;
mod sockets;
mod ssh;
mod surprises;
mod trust;
mod truth;
mod udp;
mod users;
mod width;

pub(crate) use host::{Host, LONG, Ran, at, is_error, words};
