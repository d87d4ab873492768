//! The sockets of another process, through its directory of file descriptors.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::{Error, Result, SocketError};

/// What it takes to look behind the descriptors of another process.
const PTRACE: &str = "CAP_SYS_PTRACE";

/// Looks at a copy of each socket that a process has open and whose number is wanted, one after the other.
pub(crate) fn each(pid: u32, wanted: impl Fn(i32) -> bool, mut look: impl FnMut(&str, OwnedFd)) -> Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Error::Socket(SocketError::NoProcess(pid)))?;
    let failed = |operation, object| move |errno: Errno| error(pid, PTRACE, operation, object, errno.into());
    let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(failed("open", format!("process {pid}")))?;
    for number in numbers(pid)?.into_iter().filter(|number| wanted(*number)) {
        let name = format!("fd {number}");
        match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => look(&name, fd),
            // Closed since it was listed.
            Err(Errno::BADF) => {}
            Err(errno) => return Err(failed("copy", format!("{name} of process {pid}"))(errno)),
        }
    }
    Ok(())
}

/// All of them.
pub(crate) fn each_socket(pid: u32, look: impl FnMut(&str, OwnedFd)) -> Result<()> {
    each(pid, |_| true, look)
}

/// What it means when the kernel does not let us look into a process.
fn error(pid: u32, missing: &'static str, operation: &'static str, object: String, cause: io::Error) -> Error {
    match Errno::from_io_error(&cause) {
        Some(Errno::SRCH) => Error::Socket(SocketError::NoProcess(pid)),
        Some(Errno::PERM | Errno::ACCESS) => Error::Socket(SocketError::ProcessDenied { pid, missing, source: cause }),
        _ => Error::Os { operation, object, cause },
    }
}

/// The numbers of the descriptors that are sockets.
fn numbers(pid: u32) -> Result<Vec<i32>> {
    let dir = format!("/proc/{pid}/fd");
    let dir = &dir;
    let failed = |missing: &'static str| {
        move |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => Error::Socket(SocketError::NoProcess(pid)),
            _ => error(pid, missing, "read", dir.clone(), cause),
        }
    };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed("CAP_DAC_READ_SEARCH"))? {
        let entry = entry.map_err(failed(PTRACE))?;
        let is_socket = match std::fs::read_link(entry.path()) {
            Ok(to) => to.to_string_lossy().starts_with("socket:["),
            // Who may list the directory need not be allowed to look behind its entries.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Err(failed(PTRACE)(cause)),
            // Closed since it was listed.
            Err(_) => false,
        };
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        numbers.extend(number.filter(|_| is_socket));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
