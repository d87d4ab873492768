//! What is wrong with a ruleset file.

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
}
