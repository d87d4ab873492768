//! Child programs: started in the calling thread's namespaces, ended and reaped by their guard and by nothing else.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal};

use crate::error::{Context, Result};
use crate::fork::spawn;
use crate::listening::{INTERVAL, Proto, is_listening, timespec};
use crate::raw;

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A running child program. Dropping it sends SIGTERM, after two seconds SIGKILL, and reaps it.
///
/// The kernel also ends it when the thread that started it ends, so that a killed test leaves nothing; keep the guard on
/// that thread.
#[derive(Debug)]
pub struct Program {
    child: Child,
    handle: OwnedFd,
}

impl Program {
    /// Starts `command` in the network and mount namespaces of the calling thread.
    pub fn start(command: &mut Command) -> Result<Program> {
        raw::before_exec(command, || Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        let mut child = spawn(command).context("start", format_args!("{command:?}"))?;
        match handle(&child) {
            Ok(handle) => Ok(Program { child, handle }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("hold", format_args!("{command:?}"))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal).context("signal process", self.id())
    }

    /// Waits for its end, at most so long; `None` when it still runs.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.ended_within(timeout)
            .and_then(|ended| if ended { self.child.wait().map(Some) } else { Ok(None) })
            .context("wait for process", self.child.id())
    }

    /// Waits until `address` is served in this thread's namespace; the program's early end is an error.
    pub fn wait_listening(&mut self, proto: Proto, address: SocketAddr, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        while !is_listening(proto, address)? {
            if let Some(status) = self.wait_exit(INTERVAL)? {
                let ended = io::Error::other(format!("program ended, {status}"));
                return Err(ended).context("wait for", address);
            }
            if Instant::now() >= until {
                return Err(io::Error::from(io::ErrorKind::TimedOut)).context("wait for", address);
            }
        }
        Ok(())
    }

    fn ended_within(&self, timeout: Duration) -> io::Result<bool> {
        // A pidfd is readable once its process has ended.
        let mut ready = [PollFd::new(&self.handle, PollFlags::IN)];
        match poll(&mut ready, Some(&timespec(timeout))) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            count => Ok(count? > 0),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Once reaped by wait_exit the signals fail harmlessly: the handle is this process's and no other's.
        let _ = pidfd_send_signal(&self.handle, Signal::TERM);
        if !self.ended_within(GRACE).unwrap_or(false) {
            let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn handle(child: &Child) -> io::Result<OwnedFd> {
    let id = i32::try_from(child.id()).map_err(io::Error::other)?;
    let pid = Pid::from_raw(id).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
