//! What the command reads, says and refuses, which is the same on every kernel, on instances of its own. Needs root.
//! What depends on the kernel is in `commands`.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

mod all;
#[path = "../common/asked.rs"]
mod asked;
mod boot;
mod change;
mod confirm;
#[path = "../common/host.rs"]
mod host;
mod import;
mod newer;
mod plan;
mod show;
mod ssh;
mod trust;
mod truth;
mod width;

pub(crate) use host::{Host, PATIENCE, Ran, at, words};
