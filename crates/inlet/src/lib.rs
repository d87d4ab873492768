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
#![deny(unsafe_code, clippy::self_named_module_files)]

mod bpf;
mod described;
mod error;
mod fault;
mod file;
mod instance;
mod kernel;
mod processes;
mod program;
mod route;
mod snapshot;
mod socket;
mod state;

// Where an instance is.
pub use kernel::Netns;
pub use state::{DEFAULT_BPFFS, Location};

// What can be asked.
pub use described::{Found, Known, LastRefusal, Unfound};
pub use route::{Reach, Route, RouteChanges};
pub use snapshot::{
    Answer, CODES, Checker, Checkup, Explainer, Explanation, Finding, Listener, Listeners, Live, LiveProgram, Outcome,
    Planner, Proposal, ServiceState, ServiceTraffic, Severity, Snapshot, Unasked, Warning,
};
pub use socket::{Device, Owner, SocketState};
pub use state::{Counters, Pending};

// What can be changed.
pub use file::{read_ruleset, read_text};
pub use instance::{Adopted, Adoption, ApplyOptions, Committed, Instance, UpOptions};
pub use snapshot::{Edit, ServiceRequest};

// What goes on beside an instance.
pub use processes::{LeftBehind, Ran, Waiter, Watcher, await_confirmation, run, wait_in_background};

// Why something fails.
pub use error::{
    CommitError, ConfirmError, DescribeError, Error, FileError, KernelError, Refusal, Refused, Result, RouteError,
    SocketError, StateError,
};

pub use inlet_core as core;
pub use inlet_core::{Endpoint, EndpointError};
