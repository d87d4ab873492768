//! Where what finds described sockets lies in the directory of an instance.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The files of what finds described sockets.
#[derive(Clone, Debug)]
pub(crate) struct DescribedFiles(pub(crate) PathBuf);

impl DescribedFiles {
    pub(crate) fn refusals(&self) -> PathBuf {
        self.0.join("refusals")
    }

    pub(crate) fn places(&self) -> PathBuf {
        self.0.join("places")
    }

    /// A directory that is there while the others are being replaced.
    pub(crate) fn changing(&self) -> PathBuf {
        self.0.join("changing")
    }

    /// Whether there is anything of it.
    pub(crate) fn are_there(&self) -> Result<bool> {
        self.0.try_exists().map_err(Error::at("look at", &self.0))
    }

    pub(crate) fn find(&self, protocol: inlet_core::Protocol) -> PathBuf {
        self.0.join(format!("find_{protocol}"))
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
