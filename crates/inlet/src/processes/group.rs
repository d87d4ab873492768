//! The control group of a run: one that no other run has, locked while the run goes on.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use inlet_core::{CgroupPath, ServiceName};

use crate::error::{DescribeError, Error, Result};
use crate::kernel::Cgroups;
use crate::state::Exclusive;

/// How long what a command started may go on after it before it counts as left behind.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The names of control groups of runs begin so.
const PREFIX: &str = "inlet-run-";

/// A control group below the one of this process.
pub(super) struct Group {
    home: PathBuf,
    dir: PathBuf,
    pub(super) path: CgroupPath,
    /// Others see by it that the run goes on.
    _running: Exclusive,
}

impl Group {
    pub(super) fn make() -> Result<Self> {
        let cgroups = Cgroups::find()?;
        let own = own_path()?;
        // Numbers of processes come again, and other namespaces have the same.
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(Error::os("get", "random bytes"))?;
        let name = format!("{PREFIX}{:016x}", u64::from_ne_bytes(bytes));
        let path: CgroupPath = format!("{}/{name}", own.trim_end_matches('/')).parse()?;
        let at = |path: &str| cgroups.root().join(path.trim_start_matches('/'));
        let (home, dir) = (at(&own), at(path.as_str()));
        std::fs::create_dir(&dir).map_err(Error::at("make", &dir))?;
        let running = Exclusive::if_free(&dir);
        let taken = || DescribeError::Running(path.as_str().to_owned());
        match running.and_then(|running| running.ok_or_else(|| taken().into())) {
            Ok(_running) => Ok(Self { home, dir, path, _running }),
            Err(error) => {
                let _ = std::fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    /// Starts a command inside: this process goes there, and comes back without it.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        move_to(&self.dir)?;
        let child = command.spawn();
        // When that fails the command runs, and this process waits for it where it is.
        let _ = move_to(&self.home);
        child.map_err(|cause| {
            Error::Describe(DescribeError::Spawn {
                command: command.get_program().to_string_lossy().into_owned(),
                cause,
            })
        })
    }

    /// Removes it; `false` when processes are left in it, a moment after the command ended.
    pub(super) fn remove(&self) -> bool {
        let _ = move_to(&self.home);
        let is_gone = || std::fs::remove_dir(&self.dir).is_ok();
        is_gone() || (self.wait_until_empty().is_ok() && is_gone())
    }

    /// What the command started may end a little later than it.
    fn wait_until_empty(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let until = Instant::now() + LAST_WORDS;
        let mut events = std::fs::File::open(self.dir.join("cgroup.events"))?;
        loop {
            // Reading arms the poll: a change after it is an event.
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            let left = until.saturating_duration_since(Instant::now());
            if text.contains("populated 0") || left.is_zero() {
                return Ok(());
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left))?;
        }
    }
}

/// The path of this process' control group.
fn own_path() -> Result<String> {
    let groups = "/proc/self/cgroup";
    let text = std::fs::read_to_string(groups).map_err(Error::os("read", groups))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
        .ok_or(Error::Describe(DescribeError::NoCgroups))
}

/// Moves this process.
fn move_to(dir: &Path) -> Result<()> {
    let procs = dir.join("cgroup.procs");
    std::fs::write(&procs, "0").map_err(Error::at("move into", dir))
}

/// Whether a control group was made by [`fn@super::run`].
pub(super) fn is_of_a_run(path: &CgroupPath) -> bool {
    path.as_str().rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX))
}

/// Takes over from a run that was killed, or that ended and left processes behind: nobody holds the lock of its group.
pub(super) fn take_over(path: &CgroupPath, service: &ServiceName) -> Result<()> {
    let dir = Cgroups::find()?.root().join(path.as_str().trim_start_matches('/'));
    match std::fs::remove_dir(&dir) {
        Ok(()) => return Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Processes are in it.
        Err(_) => {}
    }
    match Exclusive::if_free(&dir)? {
        Some(_) => Ok(()),
        None => Err(DescribeError::Running(service.as_str().to_owned()).into()),
    }
}
