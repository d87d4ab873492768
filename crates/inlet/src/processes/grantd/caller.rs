//! Who asks, by what the kernel says: the user, and the control group for units.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use inlet_core::{Confine, Grant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use crate::described::uid_of;
use crate::error::{Error, Result};
use crate::kernel::{Cgroups, raw};

/// Who connected. The kernel keeps that of the moment of the connect, whoever has the connection now.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pid: i32,
    /// The names on the way to its control group; `None` when that is not proven.
    cgroup: Option<Vec<String>>,
}

impl Caller {
    pub(super) fn of(connection: BorrowedFd<'_>) -> Result<Self> {
        let peer = socket_peercred(connection).map_err(Error::os("ask who is behind", "a connection"))?;
        Ok(Self { uid: peer.uid.as_raw(), pid: peer.pid.as_raw_pid(), cgroup: proven_cgroup(connection) })
    }

    /// Whether a grant is one of its own. A user and a unit: who is both.
    pub(super) fn holds(&self, grant: &Grant) -> Result<bool> {
        let user = match &grant.user {
            Some(user) => uid_of(user)? == Some(self.uid),
            None => true,
        };
        let unit = match &grant.unit {
            Some(unit) if user => self.is_in(&Confine::Unit(unit.clone()))?,
            Some(_) => false,
            None => true,
        };
        Ok(user && unit && (grant.user.is_some() || grant.unit.is_some()))
    }

    /// Whether it is in the control group of a unit of the system, or below it. Where a user may name groups no unit of
    /// the system is.
    fn is_in(&self, confine: &Confine) -> Result<bool> {
        let Some(cgroup) = &self.cgroup else { return Ok(false) };
        Ok(cgroup.starts_with(&Cgroups::find()?.path_of(confine)?))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, process {}", self.uid, self.pid)?;
        match self.cgroup.as_deref().and_then(<[String]>::last) {
            Some(group) => write!(f, " of {group}"),
            None => Ok(()),
        }
    }
}

/// The control group of the process that connected. Its number alone would not do: another process may have it by now.
/// The descriptor tells whether the process was still there after its group was read. Before Linux 6.5 there is no such
/// descriptor, and no proof.
fn proven_cgroup(connection: BorrowedFd<'_>) -> Option<Vec<String>> {
    let process = raw::peer_process(connection).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let pid: u32 = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if has_ended(&process) {
        return None;
    }
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(0))
}
