//! Pins and directories of them: whether they are there, and how they go.

use std::path::Path;

use crate::error::{Error, Result};

/// Whether there is a pin or a directory. That one cannot look is an error, and no answer.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::at("look at", path))
}

/// Removes a directory of pins and all below it. What is not there is fine.
pub(crate) fn remove_all(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(Error::at("remove", dir)(cause)),
        _ => Ok(()),
    }
}
