//! What is wrong with a ruleset file.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use inlet_core::config::Diagnostics;

/// What is wrong with a ruleset file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// All that is wrong with what it says; each with its own place and next step.
    #[error(transparent)]
    Wrong(#[from] Diagnostics),
    /// It cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A ruleset is in force, and cannot be kept for the next boot.
    #[error("the ruleset is in force, but it is not kept for the next boot: cannot write {}: {cause}", path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl FileError {
    pub(super) fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotKept { .. } => {
                Some("see that it can be written, then keep it with: inlet apply FILE of the ruleset in force".into())
            }
            Self::Wrong(_) | Self::Unreadable { .. } => None,
        }
    }
}
