//! Confirmation: a ruleset that is in force for a time only, unless somebody says that it may stay.
//!
//! The time is pinned beside the generation, so it comes into force in the same step, and to confirm is to remove that pin.
//! Whoever opens the instance for writing after the time is over goes back first. A process that waits does no more than
//! see to it that this happens in time: it holds nothing, and when it is killed the next command does it.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::error::{Error, Result};
use crate::fault;
use crate::instance::Instance;
use crate::kernel::Netns;
use crate::snapshot::Snapshot;
use crate::state::{GenerationFiles, Location, Pending, Waiting, deadline_of, now, pending};

/// How long a process that waits pauses when it cannot go back yet.
const PAUSE: Duration = Duration::from_secs(1);

impl Snapshot {
    /// Whether the ruleset in force waits for confirmation.
    ///
    /// # Errors
    /// Those of reading the map of the deadline.
    pub fn pending(&self) -> Result<Option<Pending>> {
        pending(&self.files.generation(self.generation))
    }
}

impl Instance {
    /// Lets the ruleset in force stay.
    ///
    /// # Errors
    /// [`Error::NothingToConfirm`], and [`Error::TooLate`] when opening the instance went back already.
    pub fn confirm(&mut self) -> Result<()> {
        if let Some(unconfirmed) = self.unconfirmed {
            return Err(Error::TooLate { unconfirmed, generation: self.generation });
        }
        let path = self.files.generation(self.generation).deadline();
        // The commit point: without the pin nobody goes back.
        match std::fs::remove_file(&path) {
            Ok(()) => fault::point("confirm:confirmed"),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Err(Error::NothingToConfirm),
            Err(cause) => return Err(Error::at("remove", &path)(cause)),
        }
        Ok(())
    }

    /// The generation that was not confirmed in time, when opening the instance went back from it to the one before.
    pub fn went_back_from(&self) -> Option<u64> {
        self.unconfirmed
    }

    /// Fails while the ruleset in force waits for confirmation: what is changed on top of it would go with it.
    pub(crate) fn require_confirmed(&self) -> Result<()> {
        match pending(&self.files.generation(self.generation))? {
            Some(Pending { left, .. }) => Err(Error::Unconfirmed { seconds: seconds(left) }),
            None => Ok(()),
        }
    }

    /// Puts the former ruleset in force when the time to confirm this one is over.
    pub(crate) fn go_back_when_over(&mut self) -> Result<()> {
        let unconfirmed = self.generation;
        match pending(&self.files.generation(unconfirmed))? {
            Some(Pending { left: None, .. }) => {}
            _ => return Ok(()),
        }
        self.roll_back().map_err(|cause| Error::GoBack { generation: unconfirmed, cause: Box::new(cause) })?;
        self.unconfirmed = Some(unconfirmed);
        Ok(())
    }
}

/// Whole seconds, a part of one counting as one.
fn seconds(left: Option<Duration>) -> u64 {
    left.map_or(0, |left| left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// Waits until the ruleset in force of this process's network namespace is confirmed or its time is over, and then goes
/// back to the one before. `ready` is called when it waits; it is not when there is nothing to wait for. Gives whether it
/// went back.
///
/// # Errors
/// Those of looking at the instance. When going back fails, it tries again until it is done.
pub fn await_confirmation(bpffs: &Path, ready: impl FnOnce()) -> Result<bool> {
    let Some(wait) = Wait::begin(bpffs)? else { return Ok(false) };
    ready();
    if !wait.is_over()? {
        return Ok(false);
    }
    loop {
        match Instance::open(Location::new(bpffs, Netns::own()?)) {
            Ok(instance) => return Ok(instance.went_back_from().is_some()),
            Err(Error::NotUp { .. }) => return Ok(false),
            // Others may keep the instance locked, or memory may be short.
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// What a process holds that waits: nobody else needs it.
struct Wait {
    files: GenerationFiles,
    deadline: Duration,
    _waiting: Waiting,
    changes: OwnedFd,
}

impl Wait {
    fn begin(bpffs: &Path) -> Result<Option<Self>> {
        let snapshot = Snapshot::open(Location::new(bpffs, Netns::own()?))?;
        let files = snapshot.files.generation(snapshot.generation);
        let Some(deadline) = deadline_of(&files)? else { return Ok(None) };
        let changes = watch(&files.0).map_err(Error::at("watch", &files.0))?;
        let waiting = Waiting::on(&files.0)?;
        Ok(Some(Self { files, deadline, _waiting: waiting, changes }))
    }

    /// Waits for the end of the time: true, or for the end of what it is for: false.
    fn is_over(&self) -> Result<bool> {
        let timer = alarm(self.deadline).map_err(Error::os("set", "a timer"))?;
        loop {
            if !self.files.deadline().exists() {
                return Ok(false);
            }
            if now() >= self.deadline {
                return Ok(true);
            }
            let mut ready = [PollFd::new(&timer, PollFlags::IN), PollFd::new(&self.changes, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(Error::os("wait for", "confirmation")(cause)),
            }
            // What changed is of no interest, only that something did.
            let mut events = [0_u8; 4096];
            while rustix::io::read(&self.changes, &mut events).is_ok_and(|count| count > 0) {}
        }
    }
}

/// A descriptor that can be read when something in a directory is removed, or the directory.
fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&changes, dir, WatchFlags::DELETE | WatchFlags::DELETE_SELF)?;
    Ok(changes)
}

/// A descriptor that can be read from a time since boot on.
fn alarm(at: Duration) -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
    let at = Timespec { tv_sec: at.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: at.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
    Ok(timer)
}
