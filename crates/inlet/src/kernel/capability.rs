//! Capabilities: what is missing is named before anything is tried.

use rustix::thread::{CapabilitySet, capabilities};

use crate::error::{Error, KernelError, Result};

/// A capability that Inlet may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Bpf,
    NetAdmin,
    /// Only for loading programs: without it the verifier refuses to look for one place in the image from two paths.
    Perfmon,
    /// Only for looking at programs and maps of others.
    SysAdmin,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    fn is_in(self, set: CapabilitySet) -> bool {
        match self {
            // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, as it did before Linux 5.8.
            Self::Bpf => set.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
            Self::NetAdmin => set.contains(CapabilitySet::NET_ADMIN),
            Self::Perfmon => set.intersects(CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN),
            Self::SysAdmin => set.contains(CapabilitySet::SYS_ADMIN),
        }
    }
}

/// Fails with the names of the capabilities that this thread does not have.
pub(crate) fn require(operation: &'static str, needed: &[Capability]) -> Result<()> {
    let effective = capabilities(None).map_err(Error::os("look at", "the capabilities of this process"))?.effective;
    let missing: Vec<&str> = needed.iter().filter(|cap| !cap.is_in(effective)).map(|cap| cap.name()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Kernel(KernelError::Capability { operation, missing: missing.join(", ") })),
    }
}
