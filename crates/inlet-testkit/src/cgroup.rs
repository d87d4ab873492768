//! A cgroup (v2) of a test's own, for programs attached to cgroups. It controls no resource.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Context, Result};
use crate::listening::timespec;
use crate::patience::PATIENCE;
use crate::raw;
use crate::scratch::Scratch;

/// A child of the cgroup v2 root, removed on drop together with the processes that are still in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: Scratch,
    handle: File,
    root: PathBuf,
}

impl Cgroup {
    /// Makes an empty cgroup below the v2 root that /proc/mounts names.
    pub fn new() -> Result<Cgroup> {
        let root = root().context("find", "a cgroup2 mount in /proc/self/mounts")?;
        let directory = Scratch::new(&root, "inlet-testkit-").context("make a cgroup in", root.display())?;
        let handle = File::open(directory.path()).context("open", directory.path().display())?;
        Ok(Cgroup { directory, handle, root })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its directory, open, as `bpf_link_create` wants it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Makes `command` start inside the cgroup: it is a member before its first instruction.
    pub fn contain(&self, command: &mut Command) -> Result<()> {
        let procs = self.path().join("cgroup.procs");
        let procs = File::options().write(true).open(&procs).context("open", procs.display())?;
        raw::before_exec(command, move || {
            // "0" is the process that writes.
            rustix::io::write(&procs, b"0")?;
            Ok(())
        });
        Ok(())
    }

    /// The process ids of the members.
    pub fn members(&self) -> Result<Vec<u32>> {
        let procs = self.path().join("cgroup.procs");
        let text = fs::read_to_string(&procs).context("read", procs.display())?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn clear(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut events = File::open(self.path().join("cgroup.events"))?;
        loop {
            // Reading arms the poll: a change after it is an event, so none is missed between look and wait.
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if text.contains("populated 0") {
                return Ok(());
            }
            self.end_members().map_err(io::Error::other)?;
            let left = until.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(&events, PollFlags::PRI)];
            if poll(&mut ready, Some(&timespec(left)))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Ends what is in the cgroup, one process id at a time. Only what this test put there, and its children, can be.
    fn end_members(&self) -> Result<()> {
        for id in self.members()? {
            if id == std::process::id() {
                let procs = self.root.join("cgroup.procs");
                fs::write(&procs, "0").context("leave for", procs.display())?;
            } else if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                self.end(id, pid)?;
            }
        }
        Ok(())
    }

    fn end(&self, id: u32, pid: Pid) -> Result<()> {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        // Still a member once the handle is held: so the handle is not some later process with the same id.
        if self.members()?.contains(&id) {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
        Ok(())
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let cleared = self.clear();
        assert!(cleared.is_ok() || std::thread::panicking(), "empty {}: {cleared:?}", self.path().display());
    }
}

fn root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
