//! What the kernel refuses to everybody, or to us.

use std::borrow::Cow;
use std::io;

use super::Error;

/// What the kernel does not have, or not for us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Capabilities are missing.
    #[error("{operation} needs {missing}")]
    Capability {
        /// What was tried.
        operation: &'static str,
        /// The names of what is missing, with commas.
        missing: String,
    },
    /// The kernel cannot do something.
    #[error("this kernel has no {what}, which came with Linux {since}")]
    Feature {
        /// What is missing.
        what: &'static str,
        /// The version that brought it.
        since: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The modules that list sockets are not loaded, and the kernel found none to load.
    #[error("cannot list {what}: the kernel has no tcp_diag or udp_diag")]
    SocketDiag {
        /// What was to be listed.
        what: &'static str,
    },
    /// The namespace cannot be opened.
    #[error("network namespace {spec}: {cause}")]
    Netns {
        /// What was given.
        spec: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// No interface of the namespace has this name.
    #[error("no interface {name:?} in {netns}")]
    UnknownInterface {
        /// The name.
        name: String,
        /// The namespace.
        netns: String,
    },
    /// The name is an alternative name of an interface.
    #[error("{given:?} is another name of interface {name:?}")]
    AlternativeName {
        /// The name given.
        given: String,
        /// The name that the kernel goes by.
        name: String,
    },
}

impl KernelError {
    pub(super) fn remedy(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Capability { .. } => "run it as root or with these capabilities".into(),
            Self::Feature { since, .. } if older("6.1", since) => format!("use Linux {since} or newer").into(),
            Self::Feature { .. } => "use Linux 6.1 or newer".into(),
            Self::SocketDiag { .. } => "on the host: modprobe -a tcp_diag udp_diag".into(),
            Self::Netns { .. } => "give a path, a name that `ip netns` lists, or pid:N".into(),
            Self::UnknownInterface { .. } => "list the interfaces with: ip link".into(),
            Self::AlternativeName { name, .. } => format!("write {name}").into(),
        })
    }
}

/// For a list of sockets that the kernel does not give.
pub(crate) fn not_listed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => KernelError::SocketDiag { what }.into(),
        _ => Error::os::<io::Error>("list", what)(cause),
    }
}

/// Whether one version of Linux came before another one.
fn older(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    numbers(one) < numbers(other)
}
