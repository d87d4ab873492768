//! The sockets of another process, through its directory of file descriptors.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::{Error, Result};

/// Copies of all sockets that a process has open, each with a name for messages (`fd 7`).
pub(crate) fn sockets(pid: u32) -> Result<Vec<(String, OwnedFd)>> {
    let gone = || Error::NoProcess(pid);
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|_| gone())?;
    let mut sockets = Vec::new();
    for number in numbers(pid)? {
        match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => sockets.push((format!("fd {number}"), fd)),
            // Closed since it was listed.
            Err(rustix::io::Errno::BADF) => {}
            Err(rustix::io::Errno::SRCH) => return Err(gone()),
            Err(errno) => return Err(Error::ProcessDenied { pid, source: errno.into() }),
        }
    }
    Ok(sockets)
}

/// The numbers of the descriptors that are sockets.
fn numbers(pid: u32) -> Result<Vec<i32>> {
    let dir = format!("/proc/{pid}/fd");
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => Error::NoProcess(pid),
        _ => Error::ProcessDenied { pid, source: cause },
    };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_socket = match std::fs::read_link(entry.path()) {
            Ok(to) => to.to_string_lossy().starts_with("socket:["),
            // Who may list the directory need not be allowed to look behind its entries.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Err(failed(cause)),
            // Closed since it was listed.
            Err(_) => false,
        };
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        numbers.extend(number.filter(|_| is_socket));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
