//! Locks on the directories of the bpf filesystem, by flock(2): many readers or one writer. The kernel lets go of a lock
//! when its process ends, however it ends.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock, fstat, stat};

use crate::error::{Error, Result};

/// Held by those who read.
#[derive(Debug)]
pub(crate) struct Shared(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

/// Held by the one who writes.
#[derive(Debug)]
pub(crate) struct Exclusive(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

impl Shared {
    /// Waits until nobody writes. `None` when the directory does not exist.
    pub(crate) fn on(dir: &Path) -> Result<Option<Self>> {
        Ok(acquire(dir, FlockOperation::LockShared)?.map(Self))
    }
}

impl Exclusive {
    /// Waits until nobody else reads or writes. `None` when the directory does not exist.
    pub(crate) fn on(dir: &Path) -> Result<Option<Self>> {
        Ok(acquire(dir, FlockOperation::LockExclusive)?.map(Self))
    }
}

/// Locks the directory that is at the path when the lock is held: while one waits, it may be removed and made anew.
fn acquire(dir: &Path, operation: FlockOperation) -> Result<Option<File>> {
    loop {
        let opened =
            rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        let file: File = match opened {
            Ok(fd) => fd.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(Error::at("open", dir)(cause)),
        };
        flock(&file, operation).map_err(Error::at("lock", dir))?;
        let held = fstat(&file).map_err(Error::at("look at", dir))?;
        match stat(dir) {
            Ok(now) if (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino) => return Ok(Some(file)),
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(cause) => return Err(Error::at("look at", dir)(cause)),
        }
    }
}
