//! What Inlet's root tests stand on: network namespaces, a private bpffs, a cgroup, echo servers that say who they
//! are, dialers that say what they met, child programs and capability scopes.
//!
//! Every guard undoes what it did when it is dropped, and a test process killed with SIGKILL leaves nothing on the
//! host but empty directories, which the next guard removes. Guards of a thread's state are not `Send`: Linux keeps
//! namespaces and capabilities per thread, and so does this crate. Tests may run in parallel.
//!
//! This crate must not depend on another Inlet crate: what is tested must not hold up its own test.
#![deny(missing_docs, unsafe_code)]

mod answer;
mod bpffs;
mod caps;
mod cgroup;
mod dial;
mod error;
mod fork;
mod listening;
mod netns;
mod patience;
mod program;
#[allow(unsafe_code)]
mod raw;
mod scratch;
mod server;
mod skip;
mod sockaddr;
mod tcp;
mod udp;
mod veth;
mod world;

pub use answer::Answer;
pub use bpffs::BpfFs;
pub use caps::{Caps, as_user, limit_caps, with_caps, without_caps};
pub use cgroup::Cgroup;
pub use dial::Dial;
pub use error::{Error, Result};
pub use fork::{output, output_with};
pub use listening::{Proto, is_listening, wait_listening};
pub use netns::{Namespace, Netns};
pub use patience::{PATIENCE, is_guest, rounds};
pub use program::Program;
pub use server::{Listen, Server};
pub use skip::{kernel_at_least, note, require, require_feature, require_program, require_root};
pub use tcp::{TcpServer, dial_tcp};
pub use udp::{UdpServer, answer_from_interfaces, dial_udp, segment};
pub use veth::{End, checksum_offload, veth, vlan_offload};
pub use world::World;
