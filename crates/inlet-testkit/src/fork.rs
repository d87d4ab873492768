//! Keeps closing a socket apart from starting a program.
//!
//! Between fork and exec a child holds every descriptor of this process, those of other tests' threads too, close-on-exec
//! or not. A socket closed in that moment stays bound, and in its sockmap, a little longer; a client may even connect
//! to it and then be reset. So what the kit starts and what its servers close take turns.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{Shutdown, shutdown};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts `command`. Returns after the child's exec, when it holds nothing of this process any more.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let _turn = turn();
    command.spawn()
}

/// Runs `command` to its end and collects its output. Tests that assert that a socket is gone must not have
/// neighbours in the same process that use [`Command::output`]: use this instead.
pub fn output(command: &mut Command) -> io::Result<Output> {
    output_with(command, Stdio::null())
}

/// The same with a standard input.
pub fn output_with(command: &mut Command, stdin: impl Into<Stdio>) -> io::Result<Output> {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command)?.wait_with_output()
}

/// A server's socket: gone when this has been dropped.
#[derive(Debug)]
pub(crate) struct Socket(Option<OwnedFd>);

impl Socket {
    pub(crate) fn new(socket: OwnedFd) -> Socket {
        Socket(Some(socket))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("only drop takes it").as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _turn = turn();
        // Ends a listener whoever else holds it; UDP knows no such thing, and says ENOTCONN.
        let _ = shutdown(self.as_fd(), Shutdown::Both);
        self.0.take();
    }
}
