//! Inlet decides which socket receives a packet: a service gets a whole prefix, a range of ports, all ports, all but
//! some, per source or interface, with the kernel's `sk_lookup` hook.
//!
//! All state is in a bpf filesystem, one directory for each network namespace; nothing has to run. An [`Instance`]
//! writes, and nobody else reads or writes while it is open. A [`Snapshot`] reads, beside other readers. What a rule
//! means is in [`rules`].
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
//! Every change goes through [`Instance::commit`] with its [`CommitOptions`]. [`Instance::edit`] changes the ruleset in
//! force, [`Instance::apply`] replaces it by that of a file; each [`Edit`] is one of the usual small changes.
//! Four programs in `examples/` register a listener, apply a file, explain a packet and answer over UDP.
//!
//! Over UDP every server answers from where it was asked. One that is written for it has an [`AskedSocket`], and keeps
//! the addresses apart that one client asks at once.
//!
//! An [`Error`] has an enum for each part of the library to match on. Its message names the operation, the object and
//! the cause; [`Error::remedy`] is the next step.
//!
//! # Building and running
//! The build compiles a BPF program: it needs clang, and libelf and zlib with their headers (on Debian and Ubuntu:
//! `clang libelf-dev zlib1g-dev`). Programs are loaded with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, on Linux 6.1 or
//! newer.
#![deny(unsafe_code, clippy::self_named_module_files)]

mod answers;
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
pub use state::{DEFAULT_BPFFS, Listed, Location, Unfinished, list};

// What can be asked.
pub use described::{FoundSocket, LastRefusal, NotFound};
pub use route::{Mute, Reach, Route, RouteChanges, Routing, Unless};
pub use snapshot::{
    Agreement, Answer, AnswerFrom, AnswersState, CODES, Checker, Checkup, Drained, Explainer, Explanation, Finding,
    FlowStays, Listener, Listeners, LiveProgram, Outcome, Planner, Proposal, Reply, ServiceState, ServiceTraffic,
    Severity, Snapshot, StaysOn, Unasked, Warning,
};
pub use socket::{Adopted, Device, Left, Owner, SocketState, Stranger, read_pidfile};
pub use state::{AnswerCounters, Counters, FlowTable, Hook, HookProgram, Pending, Steering};

// What can be changed.
pub use file::{LastGood, read_ruleset, read_stdin, read_text};
pub use instance::{AdoptedSocket, Adoption, ApplyOptions, CommitOptions, Committed, Draining, Instance, UpOptions};
pub use snapshot::{Edit, ServiceRequest};

// What goes on beside an instance.
pub use processes::{
    Ask, DEFAULT_GRANTD, Done, Exit, Leftovers, RunOptions, Waiter, Watcher, all_sockets_of_process, ask_grantd,
    await_confirmation, lacks_rights, listen_for_requests, listener_from_systemd, run, serve_grants,
    sockets_of_process, sockets_of_systemd, wait_in_background,
};

// What a server is written with.
pub use socket::{AskedSocket, Question, Received};

// Why something fails.
pub use error::{
    AnswersError, CommitError, ConfirmError, DescribeError, Error, FileError, GrantedError, KernelError, Refusal,
    Refused, Result, RouteError, SocketError, StateError,
};

// What a rule is, and what a ruleset means.
pub use inlet_core as rules;
pub use inlet_core::{Endpoint, EndpointError};
