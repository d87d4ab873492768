//! Inlet decides which socket receives a packet: a service gets a whole prefix, a range of ports, all ports, all but
//! some, per source or interface, with the kernel's `sk_lookup` hook.
//!
//! All state is in a bpf filesystem, one directory for each network namespace; nothing has to run. An [`Instance`] writes and
//! is alone while it is open; a [`Snapshot`] reads, beside other readers. What a rule means is told in [`inlet_core`].
//!
//! A Rust service registers its own listener:
//!
//! ```no_run
//! use std::net::TcpListener;
//! use inlet::{Instance, Location};
//!
//! let listener = TcpListener::bind("127.0.0.1:8080")?;
//! Instance::open(Location::default_for_this_process()?)?.register("web", &listener)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Programs are loaded with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. Built for Linux 6.1 and newer.
#![deny(unsafe_code)]

mod bpf;
mod check;
mod described;
mod error;
mod explain;
mod fault;
mod file;
mod instance;
mod kernel;
mod listeners;
mod program;
mod proposal;
mod receivers;
mod route;
mod snapshot;
mod socket;
mod state;
mod text;
mod waiter;
mod warning;

pub use check::{Checker, Checkup, Finding, Severity};
pub use described::{Found, Known, LastRefusal, LeftBehind, Ran, RefusedListener, Unfound, Watcher, run};
pub use error::{Error, Refusal, Refused, Result};
pub use explain::{Answer, Explainer, Explanation, Live, LiveProgram, Outcome, Unasked};
pub use file::read_ruleset;
pub use inlet_core as core;
pub use instance::{Adopted, Adoption, ApplyOptions, Committed, Instance, ServiceRequest, UpOptions};
pub use kernel::Netns;
pub use listeners::{Listener, Listeners, ServiceTraffic};
pub use proposal::Proposal;
pub use route::{Reach, Route, RouteChanges};
pub use snapshot::{ServiceState, Snapshot};
pub use socket::{Endpoint, EndpointError, Owner, SocketState};
pub use state::{Counters, DEFAULT_BPFFS, Location, Pending};
pub use text::read_text;
pub use waiter::await_confirmation;
pub use waiter::{Waiter, wait_in_background};
pub use warning::Warning;
