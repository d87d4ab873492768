//! A bpffs that only the calling thread, and what it starts, can see. Everything pinned in it goes with it.
//!
//! It is mounted in a private mount namespace, so the kernel removes it when the last thread or process there ends,
//! however that happens.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::fchdir;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Result};
use crate::raw;
use crate::scratch::{Scratch, home};

/// A private bpffs; the calling thread is in its mount namespace until the guard is dropped.
#[derive(Debug)]
pub struct BpfFs {
    // Fields drop in this order: first out of the mount namespace, then away with the directory.
    _inside: Inside,
    directory: Scratch,
}

impl BpfFs {
    /// Makes a mount namespace for this thread and mounts a bpffs there on a new directory.
    pub fn new() -> Result<BpfFs> {
        let parent = home();
        std::fs::create_dir_all(&parent).context("make", parent.display())?;
        let directory = Scratch::new(&parent, "bpffs-").context("make a directory in", parent.display())?;
        let inside = Inside::enter().context("enter", "a private mount namespace")?;
        mount("bpf", directory.path(), "bpf", MountFlags::empty(), None)
            .context("mount a bpffs at", directory.path().display())?;
        Ok(BpfFs { _inside: inside, directory })
    }

    /// Where it is mounted, as seen by this thread and what it starts.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // Detached at once; a program still running in the namespace keeps its open files and no more.
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// A stay of this thread in a private mount namespace.
#[derive(Debug)]
struct Inside {
    home: OwnedFd,
    directory: OwnedFd,
    _this_thread: PhantomData<*const ()>,
}

impl Inside {
    fn enter() -> io::Result<Inside> {
        let home = File::open("/proc/thread-self/ns/mnt")?.into();
        let directory = open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        raw::unshare_mounts()?;
        // From here on a failure must lead home, which the drop of this value does.
        let inside = Inside { home, directory, _this_thread: PhantomData };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(inside)
    }

    fn leave(&self) -> io::Result<()> {
        // Threads started here share this thread's root and directory, and setns refuses to change shared ones. A joined
        // thread may share them for a moment longer: the kernel wakes the joiner before it lets go of them.
        raw::unshare_fs()?;
        move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Mount))?;
        // setns leaves the thread at the root of the namespace.
        fchdir(&self.directory)?;
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let left = self.leave();
        assert!(left.is_ok() || thread::panicking(), "return to the mount namespace of before: {left:?}");
    }
}
