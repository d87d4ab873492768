//! What the kernel refuses to everybody, or to us.

use std::borrow::Cow;
use std::io;

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
            Self::Netns { .. } => "give a path, a name that `ip netns` lists, or pid:N".into(),
            Self::UnknownInterface { .. } => "list the interfaces with: ip link".into(),
            Self::AlternativeName { name, .. } => format!("write {name}").into(),
        })
    }
}

/// Whether one version of Linux came before another one.
fn older(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    numbers(one) < numbers(other)
}
