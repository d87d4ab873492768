//! The directory of all instances of a bpf filesystem.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, lstat};

use crate::error::{Error, Result, StateError};

/// That directory. It need not be there.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn of(bpffs: &Path) -> Self {
        Self(bpffs.join("inlet"))
    }

    /// The one that has this directory in it.
    pub(crate) fn holding(dir: &Path) -> Self {
        Self(dir.parent().unwrap_or(dir).to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of what is at this stage, for the namespace with this number.
    pub(super) fn at(&self, stage: &str, cookie: u64) -> PathBuf {
        self.0.join(format!("{stage}-{cookie}"))
    }

    /// A directory to lock while instances are made or removed. It is there only then, and for us alone: anybody may
    /// open the directory of all instances, and so keep it locked.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Checks that nobody but us and root can change what is in the directory, where it is there. In a bpf filesystem
    /// that everybody may write to, somebody else could have made it.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.0.clone();
        let found = match lstat(&path) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            found => found.map_err(Error::at("look at", &path))?,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(Error::at("use", &path)(rustix::io::Errno::NOTDIR));
        }
        let (owner, mode) = (found.st_uid, found.st_mode & 0o7777);
        let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
        if is_ours && mode & 0o022 == 0 {
            Ok(())
        } else {
            Err(Error::State(StateError::Untrusted { path, owner, mode }))
        }
    }
}
