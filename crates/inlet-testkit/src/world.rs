//! The usual surroundings of a root test: a network namespace and a private bpffs, in one guard.

use std::ops::Deref;
use std::path::PathBuf;

use crate::bpffs::BpfFs;
use crate::error::Result;
use crate::netns::{Namespace, Netns};
use crate::skip::require_root;

/// A network namespace that this thread is in, and a bpffs that only it can see. Derefs to the [`Namespace`].
#[derive(Debug)]
pub struct World {
    // Dropped in this order: what is pinned goes first, while its namespace lives.
    /// The private bpffs.
    pub bpffs: BpfFs,
    /// The network namespace.
    pub netns: Netns,
}

impl World {
    /// Makes the surroundings, or skips: `None` means that the test lacks root and must return.
    ///
    /// # Panics
    /// When root lacks something needed: that is a failure of the test.
    #[must_use]
    pub fn new() -> Option<World> {
        require_root().then(|| World::try_new().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Makes the surroundings, with errors for the caller to judge.
    pub fn try_new() -> Result<World> {
        let netns = Netns::new()?;
        let bpffs = BpfFs::new()?;
        Ok(World { bpffs, netns })
    }

    /// A path in the bpffs.
    #[must_use]
    pub fn pin(&self, name: &str) -> PathBuf {
        self.bpffs.path().join(name)
    }
}

impl Deref for World {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.netns
    }
}
