//! The control group of a command that `inlet run` runs: made below the one of this process, and removed when it is
//! empty.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use inlet_core::{CgroupPath, Confine, Description};

use crate::error::{DescribeError, Error, Result};
use crate::kernel::Cgroups;

/// How long what a command started may go on after it before it counts as left behind.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How the control group of a command is called, before the number of the process that made it.
const NAME: &str = "inlet-run-";

/// A control group below the one of this process.
pub(super) struct Group {
    /// Where all control groups are.
    root: PathBuf,
    home: PathBuf,
    dir: PathBuf,
    pub(super) path: CgroupPath,
}

impl Group {
    pub(super) fn make() -> Result<Self> {
        let cgroups = Cgroups::find()?;
        let own = own_path()?;
        let path: CgroupPath = format!("{}/{NAME}{}", own.trim_end_matches('/'), std::process::id()).parse()?;
        let root = cgroups.root().to_owned();
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        let (home, dir) = (at(&own), at(path.as_str()));
        sweep(&home);
        std::fs::create_dir(&dir).map_err(Error::at("make", &dir))?;
        Ok(Self { home, dir, path, root })
    }

    /// Starts a command inside: this process goes there, and comes back without it.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        move_to(&self.dir)?;
        let child = command.spawn();
        move_to(&self.home)?;
        child.map_err(|cause| {
            Error::Describe(DescribeError::Spawn {
                command: command.get_program().to_string_lossy().into_owned(),
                cause,
            })
        })
    }

    /// Removes it; `false` when processes are left in it, a moment after the command ended.
    pub(super) fn remove(&self) -> bool {
        let is_gone = || std::fs::remove_dir(&self.dir).is_ok();
        is_gone() || (self.wait_until_empty().is_ok() && is_gone())
    }

    /// The group of another `run` by which a service is described, and whether processes are left in it.
    pub(super) fn of_other(&self, known: &Description) -> Option<(String, bool)> {
        let Some(Confine::Cgroup(path)) = &known.confine else { return None };
        let is_of_run = path.as_str().rsplit('/').next().is_some_and(|name| name.starts_with(NAME));
        let dir = self.root.join(path.as_str().trim_start_matches('/'));
        let events = || std::fs::read_to_string(dir.join("cgroup.events"));
        is_of_run.then(|| (path.as_str().to_owned(), events().is_ok_and(|text| text.contains("populated 1"))))
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

/// Removes the groups that processes left which were killed: those of processes that are gone, when they are empty. One
/// may have this process' number.
fn sweep(home: &Path) {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
        let is_gone = |pid: u32| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
        if maker.is_some_and(is_gone) {
            // The kernel keeps one that has processes.
            let _ = std::fs::remove_dir(entry.path());
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
