//! The process that waits for a ruleset to be confirmed: how it is started, and how it leaves the terminal behind.
//!
//! It is started before the commit, so that no commit for a time is ever without one, and begins when the one who
//! started it says so or ends. What it does is in `confirm.rs`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::confirm::await_confirmation;
use crate::error::{Error, Result};
use crate::kernel::raw;
use crate::state::Location;

/// What the process writes when it waits.
const READY: u8 = b'.';

/// A process that waits, or will.
#[derive(Debug)]
pub struct Waiter(Child);

impl Waiter {
    /// Starts the process that is to wait: `program` with its arguments, in the namespace of the instance. It has to call
    /// [`wait_in_background`] at once.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(location: &Location, mut program: Command) -> Result<Self> {
        program.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = location.netns().run(|| program.spawn())?;
        child.map(Self).map_err(Error::os("start", "the process that waits for confirmation"))
    }

    /// Lets it begin, after the commit and when this process has let go of the instance. Gives whether it waits: it does
    /// not when there is nothing to wait for.
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

/// What a process does that [`Waiter::start`] started: it leaves the session and the terminal of the one who started it,
/// waits until that one lets it begin or ends, and then as [`await_confirmation`] does.
///
/// # Errors
/// Those of [`await_confirmation`].
pub fn wait_in_background(bpffs: &Path) -> Result<bool> {
    // A process that was just started leads no group, so this works.
    let _ = rustix::process::setsid();
    raw::ignore_hangup();
    // Memory may be short just because of what is to be undone. That takes a privilege, and goes without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    io::stdin().lock().read_to_end(&mut Vec::new()).map_err(Error::os("read", "standard input"))?;
    await_confirmation(bpffs, || {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&[READY]).and_then(|()| stdout.flush());
        if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    })
}
