//! Directories that mark something made for a test, with the removal of those whose test was killed.
//!
//! A lock (flock) on the directory says that its owner lives: process ids would be reused, and differ between pid
//! namespaces. Removing a directory that is a mount point elsewhere would detach that mount, so no living one is touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

/// The well-known parent in the temporary directory, which is also the lock that creation and sweeping take.
pub(crate) fn home() -> PathBuf {
    std::env::temp_dir().join("inlet-testkit")
}

/// A new, empty, locked directory. Its maker removes what it put there; the directory goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _alive: File,
}

impl Scratch {
    /// Makes a directory in `parent` whose name begins with `prefix`; removes dead empty ones with that prefix.
    pub(crate) fn new(parent: &Path, prefix: &str) -> io::Result<Scratch> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let home = home();
        fs::create_dir_all(&home)?;
        let lock = File::open(&home)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        sweep(parent, prefix)?;
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{prefix}{}-{serial}", std::process::id()));
        fs::create_dir(&path)?;
        let alive = File::open(&path)?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Scratch { path, _alive: alive })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is empty and unlocked, so that the next sweep removes it.
        let _ = fs::remove_dir(&self.path);
    }
}

fn sweep(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // Another user's directory, or one that goes away meanwhile, is not ours to worry about.
        let Ok(directory) = File::open(entry.path()) else {
            continue;
        };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}
