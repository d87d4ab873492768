//! The process that waits for a ruleset to be confirmed: how it is started, and how it leaves the terminal behind.
//!
//! It is started before the commit, so that no commit for a time is ever without one, and begins when the one who
//! started it says so or ends. It holds nothing, and when it is killed the next command goes back.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::error::{Error, Result, StateError};
use crate::instance::Instance;
use crate::kernel::{Netns, raw};
use crate::snapshot::Snapshot;
use crate::state::{Files, GenerationFiles, Location, Waiting, deadline_of, is_there, now};

/// How long a process that waits pauses when it cannot go back yet.
const PAUSE: Duration = Duration::from_secs(1);

/// How often, and how long after each time, one begins that cannot begin.
const BEGIN_TRIES: u32 = 30;
const BEGIN_PAUSE: Duration = Duration::from_millis(100);

/// What the process writes when it waits.
const READY: u8 = b'.';

/// A process that waits, or will.
#[derive(Debug)]
pub struct Waiter(Child);

impl Waiter {
    /// Starts the process that is to wait: `program` with its arguments, in the namespace of the instance. It has to
    /// call [`wait_in_background`] at once.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(location: &Location, mut program: Command) -> Result<Self> {
        program.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = location.netns().run(|| program.spawn())?;
        child.map(Self).map_err(Error::os("start", "the process that waits for confirmation"))
    }

    /// Lets it begin, after the commit and when this process has let go of the instance. Gives whether it waits: it
    /// does not when there is nothing to wait for.
    ///
    /// # Errors
    /// Those of talking with it.
    pub fn begin(mut self) -> Result<bool> {
        drop(self.0.stdin.take());
        let mut said = Vec::new();
        if let Some(stdout) = self.0.stdout.take() {
            let read = stdout.take(1).read_to_end(&mut said);
            read.map_err(Error::os("hear of", "the process that waits for confirmation"))?;
        }
        Ok(said == [READY])
    }
}

/// What a process does that [`Waiter::start`] started: it leaves the session and the terminal of the one who started
/// it, waits until that one lets it begin or ends, and then as [`await_confirmation`] does.
///
/// # Errors
/// Those of [`await_confirmation`].
pub fn wait_in_background(bpffs: &Path) -> Result<bool> {
    // A process that was just started leads no group, so this works.
    let _ = rustix::process::setsid();
    raw::ignore_hangup();
    // Memory may be short just because of what is to be undone. That takes a privilege, and goes without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // Who cannot be heard has ended, or will not say anything any more.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    await_confirmation(bpffs, || {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&[READY]).and_then(|()| stdout.flush());
        if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    })
}

/// Waits until the ruleset in force of this process's network namespace is confirmed or its time is over, and then goes
/// back to the one before. `ready` is called when it waits; it is not when there is nothing to wait for. Gives whether
/// it went back.
///
/// # Errors
/// Those of looking at the instance, when it fails again and again before it waits. From then on it never gives up: when
/// going back fails, this process begins anew, as libbpf keeps for the life of a process what the kernel once refused it.
pub fn await_confirmation(bpffs: &Path, ready: impl FnOnce()) -> Result<bool> {
    let Some(wait) = begin(bpffs)? else { return Ok(false) };
    ready();
    if !wait.is_over() {
        return Ok(false);
    }
    loop {
        match go_back(bpffs) {
            Ok(went_back) => return Ok(went_back),
            // Others may keep the instance locked, or memory may be short.
            Err(_) => std::thread::sleep(PAUSE),
        }
        // It comes back only when it fails.
        let _ = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    }
}

/// Begins to wait. What fails now may work in a moment.
fn begin(bpffs: &Path) -> Result<Option<Wait>> {
    let mut tries = 0;
    loop {
        match Wait::begin(bpffs) {
            Err(Error::State(StateError::NotUp { .. })) => return Ok(None),
            Err(error) if tries == BEGIN_TRIES => return Err(error),
            Err(_) => std::thread::sleep(BEGIN_PAUSE),
            begun => return begun,
        }
        tries += 1;
    }
}

/// Goes back, unless that is done already or the ruleset was confirmed.
fn go_back(bpffs: &Path) -> Result<bool> {
    match Instance::open(Location::new(bpffs, Netns::own()?)) {
        Ok(mut instance) => {
            instance.require_back()?;
            Ok(instance.went_back_from().is_some())
        }
        Err(Error::State(StateError::NotUp { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a process holds that waits: nobody else needs it.
struct Wait {
    files: GenerationFiles,
    deadline: Duration,
    _waiting: Waiting,
    /// Tells when something changes; without it one looks from time to time.
    changes: Option<OwnedFd>,
}

impl Wait {
    fn begin(bpffs: &Path) -> Result<Option<Self>> {
        let snapshot = Snapshot::open(Location::new(bpffs, Netns::own()?))?;
        let files = Files(snapshot.location().dir()).generation(snapshot.generation());
        let Some(deadline) = deadline_of(&files)? else { return Ok(None) };
        let changes = watch(&files.0).ok();
        let waiting = Waiting::on(&files.waiting())?;
        Ok(Some(Self { files, deadline, _waiting: waiting, changes }))
    }

    /// Waits for the end of the time: true, or for the end of what it is for: false.
    fn is_over(&self) -> bool {
        loop {
            // That one cannot look does not mean that somebody confirmed.
            if let Ok(false) = is_there(&self.files.deadline()) {
                return false;
            }
            if now() >= self.deadline {
                return true;
            }
            if self.wait_for_change().is_err() {
                std::thread::sleep(BEGIN_PAUSE);
            }
        }
    }

    /// Waits until something changes or the time is over.
    fn wait_for_change(&self) -> rustix::io::Result<()> {
        let Some(changes) = &self.changes else { return Err(rustix::io::Errno::NOSYS) };
        let timer = alarm(self.deadline)?;
        let mut ready = [PollFd::new(&timer, PollFlags::IN), PollFd::new(changes, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ready, None))?;
        // What changed is of no interest, only that something did.
        let mut events = [0_u8; 4096];
        while rustix::io::read(changes, &mut events).is_ok_and(|count| count > 0) {}
        Ok(())
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
