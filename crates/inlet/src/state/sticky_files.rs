//! Where what flows over UDP stay by lies in the directory of an instance.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The files of what flows stay by.
#[derive(Clone, Debug)]
pub(crate) struct StickyFiles(pub(crate) PathBuf);

impl StickyFiles {
    pub(crate) fn stays(&self) -> PathBuf {
        self.0.join("stays")
    }

    /// The table of another size, while it is being replaced.
    pub(crate) fn before(&self) -> PathBuf {
        self.0.join("before")
    }

    /// The sockets that are being drained.
    pub(crate) fn leaving(&self) -> PathBuf {
        self.0.join("leaving")
    }

    /// The service that each of these is drained from.
    pub(crate) fn drained_from(&self) -> PathBuf {
        self.0.join("drained-from")
    }

    pub(crate) fn counts(&self) -> PathBuf {
        self.0.join("counts")
    }

    /// Whether all of it is there: the counts are made last.
    pub(crate) fn are_there(&self) -> Result<bool> {
        self.counts().try_exists().map_err(Error::at("look at", &self.counts()))
    }
}
