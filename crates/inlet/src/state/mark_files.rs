//! Where the pins lie of what hands the marks of packets over.

use std::path::PathBuf;

use inlet_core::Family;

/// The files of what hands the marks of packets over.
#[derive(Clone, Debug)]
pub(crate) struct MarkFiles(pub(crate) PathBuf);

impl MarkFiles {
    /// The map that marks go through.
    pub(crate) fn slots(&self) -> PathBuf {
        self.0.join("slots")
    }

    /// The link of a family.
    pub(crate) fn link(&self, family: Family) -> PathBuf {
        self.0.join(match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        })
    }
}
