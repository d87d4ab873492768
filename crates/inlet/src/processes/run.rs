//! Running a command whose sockets go to a service: in a control group of its own, which the service's description
//! names for as long as the command runs.

use std::fmt;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inlet_core::{CgroupPath, Confine, Description, Listen, Protocol, ServiceName};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::signal::*;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use super::Watcher;
use crate::error::{DescribeError, Error, Result, quoted};
use crate::instance::{Instance, ServiceRequest};
use crate::kernel::{Capability, Cgroups, capability};
use crate::state::{Exclusive, Location};

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// What it left behind.
    pub leftovers: Option<Leftovers>,
}

/// Processes that a command left behind. The service goes on having their sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// The service.
    pub service: ServiceName,
    /// Their control group, which stays.
    pub group: CgroupPath,
    /// Whether the service stays described by that group.
    pub is_described: bool,
}

/// How long what a command started may go on after it before it counts as left behind.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The names of control groups of runs begin so.
const PREFIX: &str = "inlet-run-";

/// The signals that are handed on to the command.
const FORWARDED: [i32; 8] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT];

/// Runs a command to its end. The service gets the sockets that it opens: those of the service's description when it
/// has one, else those at `listen`, else all its TCP listeners. Signals are handed on to it.
///
/// # Errors
/// [`Error::UnknownService`], [`crate::DescribeError::Described`] when `listen` is given for a service that has a
/// description, [`crate::DescribeError::Spawn`] when the command cannot be started, and those of descriptions.
pub fn run(location: &Location, service: &ServiceName, listen: &[Listen], command: &mut Command) -> Result<Exit> {
    capability::require("inlet run", &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon])?;
    let group = Group::make()?;
    let ran = describe(location, service, listen, &group).and_then(|()| run_in(&group, location, service, command));
    let is_empty = group.remove();
    let is_described = described_by_us(location, service, &group)?;
    if is_empty && is_described {
        let request = ServiceRequest { description: Some(None), ..ServiceRequest::default() };
        Instance::open(location.clone())?.set_service(service, request)?;
    }
    let leftovers = (!is_empty).then(|| Leftovers { service: service.clone(), group: group.path, is_described });
    Ok(Exit { status: ran?, leftovers })
}

/// Describes the service, unless it is described already.
fn describe(location: &Location, service: &ServiceName, listen: &[Listen], group: &Group) -> Result<()> {
    let mut instance = Instance::open(location.clone())?;
    let id = instance.service(service.as_str())?;
    let known = instance.ruleset()?.services().get(id).and_then(|service| service.description.clone());
    let of_a_run = known.as_ref().and_then(|known| match &known.confine {
        Some(Confine::Cgroup(path)) if is_of_a_run(path) => Some(path),
        _ => None,
    });
    if let Some(path) = of_a_run {
        take_over(path, service)?;
    } else if known.is_some() {
        let name = service.as_str().to_owned();
        return if listen.is_empty() { Ok(()) } else { Err(Error::Describe(DescribeError::Described(name))) };
    }
    let all = [Listen::ALL_TCP];
    let listen = if listen.is_empty() { &all } else { listen };
    let mut description = Description::new(listen.iter().copied())?;
    description.confine = Some(Confine::Cgroup(group.path.clone()));
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(service, request).map(drop)
}

/// Whether a control group was made by [`run`].
fn is_of_a_run(path: &CgroupPath) -> bool {
    path.as_str().rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX))
}

/// Takes over from a run that was killed, or that ended and left processes behind: nobody holds the lock of its group.
fn take_over(path: &CgroupPath, service: &ServiceName) -> Result<()> {
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

/// Whether the service's description is the one of this group.
fn described_by_us(location: &Location, service: &ServiceName, group: &Group) -> Result<bool> {
    let instance = Instance::open(location.clone())?;
    let services = instance.ruleset()?.services();
    let known = services.id(service.as_str()).and_then(|id| services.get(id)?.description.as_ref());
    Ok(known.is_some_and(|known| known.confine == Some(Confine::Cgroup(group.path.clone()))))
}

fn run_in(group: &Group, location: &Location, service: &ServiceName, command: &mut Command) -> Result<ExitStatus> {
    let instance = Instance::open(location.clone())?;
    let services = instance.ruleset()?.services();
    let description = services.id(service.as_str()).and_then(|id| services.get(id)?.description.as_ref());
    let has_udp = description
        .is_some_and(|description| description.listen().iter().any(|listen| listen.protocol() == Protocol::Udp));
    drop(instance);
    let watching = if has_udp { Some(Watching::begin(location.clone())?) } else { None };
    // From here on a signal is for the command.
    let mut signals = SignalsInfo::<WithOrigin>::new(FORWARDED).map_err(Error::os("handle", "signals"))?;
    let handle = signals.handle();
    let mut child = group.spawn(command)?;
    let pid = Pid::from_child(&child);
    let forwarding = std::thread::spawn(move || {
        for origin in &mut signals {
            // What the terminal sends, it sends to the command too.
            if !matches!(origin.cause, Cause::Kernel)
                && let Some(signal) = Signal::from_named_raw(origin.signal)
            {
                let _ = kill_process(pid, signal);
            }
        }
    });
    let status = wait(&mut child);
    handle.close();
    let _ = forwarding.join();
    watching.map_or(Ok(()), Watching::end)?;
    status
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    child.wait().map_err(Error::os("wait for", "the command"))
}

/// Another thread that adopts UDP sockets while the command runs, unless somebody watches already.
struct Watching {
    thread: JoinHandle<Result<()>>,
    end: io::PipeWriter,
}

impl Watching {
    fn begin(location: Location) -> Result<Self> {
        let (ended, end) = io::pipe().map_err(Error::os("make", "a pipe"))?;
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            let watcher = match Watcher::new(location) {
                Err(Error::Describe(DescribeError::Watched { .. })) => return Ok(()),
                watcher => watcher?,
            };
            let _ = ready.send(());
            loop {
                use std::os::fd::AsFd;
                if watcher.wait(Some(ended.as_fd()))?.is_none() && is_closed(&ended) {
                    return Ok(());
                }
            }
        });
        // It is ready, or it ended and the channel with it.
        let _ = is_ready.recv();
        Ok(Self { thread, end })
    }

    fn end(self) -> Result<()> {
        drop(self.end);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn is_closed(pipe: &io::PipeReader) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ready = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// A control group below the one of this process.
struct Group {
    home: PathBuf,
    dir: PathBuf,
    path: CgroupPath,
    /// Others see by it that the run goes on.
    _running: Exclusive,
}

impl Group {
    fn make() -> Result<Self> {
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
    fn spawn(&self, command: &mut Command) -> Result<Child> {
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
    fn remove(&self) -> bool {
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

impl Leftovers {
    /// The next step.
    pub fn remedy(&self) -> String {
        let look = format!("list them with: systemd-cgls {}", quoted(self.group.as_str()));
        match self.is_described {
            true => {
                let service = quoted(self.service.as_str());
                format!("{look}; when they have ended: inlet service set {service} --by-hand")
            }
            false => look,
        }
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, service) = (self.group.as_str(), &self.service);
        write!(
            f,
            "the command left processes behind in control group {group}, and service {service} keeps their sockets"
        )
    }
}

impl Exit {
    /// What a shell would say of it: the exit code, or 128 and the number of the signal.
    pub fn code(&self) -> u8 {
        let code = self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}
