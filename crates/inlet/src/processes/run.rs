//! Running a command whose sockets go to a service: in a control group of its own, which the service's description
//! names for as long as the command runs.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use inlet_core::{CgroupPath, Confine, Description, Listen, Protocol, ServiceName};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::signal::*;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use super::Watcher;
use super::group::{Group, is_of_a_run, take_over};
use crate::error::{DescribeError, Error, Result, quoted};
use crate::instance::Instance;
use crate::kernel::{Capability, capability};
use crate::snapshot::ServiceRequest;
use crate::state::Location;

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

/// The signals that are handed on to the command.
const FORWARDED: [i32; 8] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT];

/// Which sockets of a command its service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Their addresses; none: all TCP listeners, and with own binds all that is bound.
    pub listen: Vec<Listen>,
    /// Whether the command has own binds.
    pub own_binds: bool,
}

/// Runs a command to its end. The service gets the sockets that it opens: those of the service's description when it
/// has one, else those of the options. Signals are handed on to it.
///
/// # Errors
/// [`crate::DescribeError::Described`] when options are given for a service that has a description,
/// [`crate::DescribeError::Running`] when another `run` serves it, [`crate::DescribeError::Spawn`] when the command
/// cannot be started, and those of descriptions.
pub fn run(location: &Location, service: &ServiceName, options: &RunOptions, command: &mut Command) -> Result<Exit> {
    capability::require("inlet run", &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon])?;
    let group = Group::make()?;
    let ran = describe(location, service, options, &group).and_then(|()| run_in(&group, location, service, command));
    let is_empty = group.remove();
    let is_described = described_by_us(location, service, &group)?;
    if is_empty && is_described {
        let request = ServiceRequest { description: Some(None), ..ServiceRequest::default() };
        Instance::open(location.clone())?.set_service(service, request)?;
    }
    let leftovers = (!is_empty).then(|| Leftovers { service: service.clone(), group: group.path, is_described });
    Ok(Exit { status: ran?, leftovers })
}

/// Describes the service, unless it is described already, and makes it when there is none. What a `run` that was killed
/// left described by its own group counts for nothing once that group is empty.
fn describe(location: &Location, service: &ServiceName, options: &RunOptions, group: &Group) -> Result<()> {
    let mut instance = Instance::open(location.clone())?;
    let services = instance.ruleset()?.services();
    let known = services.id(service.as_str()).and_then(|id| services.get(id)?.description.clone());
    let of_a_run = known.as_ref().and_then(|known| match &known.confine {
        Some(Confine::Cgroup(path)) if is_of_a_run(path) => Some(path),
        _ => None,
    });
    if let Some(path) = of_a_run {
        take_over(path, service)?;
    } else if known.is_some() {
        let name = service.as_str().to_owned();
        return if *options == RunOptions::default() {
            Ok(())
        } else {
            Err(Error::Describe(DescribeError::Described(name)))
        };
    }
    let mut description = match options.listen.as_slice() {
        [] if options.own_binds => Description::new([Listen::ALL_TCP, Listen::ALL_UDP])?,
        [] => Description::new([Listen::ALL_TCP])?,
        listen => Description::new(listen.iter().copied())?,
    };
    description.own_binds = options.own_binds;
    description.confine = Some(Confine::Cgroup(group.path.clone()));
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(service, request).map(drop)
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
