//! The processes that have sockets open, as far as /proc shows them to us.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::name::shown;

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its command, from /proc/PID/comm. Characters that are not seen as themselves are spelled out, as `\\n`.
    pub command: String,
    /// The systemd unit that it belongs to, from the path of its cgroup; `None` when that names none.
    pub unit: Option<String>,
}

impl Owner {
    fn of(pid: u32) -> Self {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let comm = read("comm");
        // The kernel ends it with a newline, and what stands before that is for the process to choose.
        let command = shown(comm.strip_suffix(b"\n").unwrap_or(&comm));
        Self { pid, command, unit: unit(&String::from_utf8_lossy(&read("cgroup"))) }
    }
}

/// The owners of sockets, by the number of the socket's inode.
pub(crate) type Owners = HashMap<u32, Vec<Owner>>;

/// How long one looks through processes. Any user may have a million files open.
const LOOK_FOR: Duration = Duration::from_secs(1);
/// After so many open files one looks at the time.
const FILES_AT_ONCE: usize = 256;

/// Looks through all processes for these sockets. That is dear, so all sockets are asked for at once. It has an end:
/// those of root come first, and sockets of processes that come too late have no owner that is visible.
pub(crate) fn owners(inodes: impl Iterator<Item = u32>) -> Owners {
    let mut found = Owners::new();
    let wanted: HashMap<String, u32> = inodes.map(|inode| (format!("socket:[{inode}]"), inode)).collect();
    if wanted.is_empty() {
        return found;
    }
    let until = Instant::now() + LOOK_FOR;
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((entry.metadata().map_or(u32::MAX, |found| found.uid()), pid))
    });
    let mut pids: Vec<(u32, u32)> = numbered.collect();
    pids.sort_unstable();
    for (_, pid) in pids {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut this = None;
        for (number, fd) in fds.enumerate() {
            if number % FILES_AT_ONCE == 0 && Instant::now() >= until {
                return found;
            }
            let link = std::fs::read_link(fd.path()).ok();
            let Some(inode) = link.and_then(|link| wanted.get(link.to_str()?).copied()) else { continue };
            let owners = found.entry(inode).or_default();
            if owners.last().is_none_or(|last| last.pid != pid) {
                owners.push(this.get_or_insert_with(|| Owner::of(pid)).clone());
            }
        }
    }
    found
}

/// The unit of a process, from what /proc/PID/cgroup says of the cgroup v2 hierarchy: the innermost service, else the
/// innermost scope.
fn unit(cgroups: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let innermost = |suffix: &str| path.split('/').rev().find(|part| part.ends_with(suffix));
    innermost(".service").or_else(|| innermost(".scope")).map(|unit| shown(unit.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn the_innermost_unit_counts() {
        let of = |cgroups: &str| unit(cgroups);
        assert_eq!(of("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        assert_eq!(of("1:cpu:/x\n0::/system.slice/web@1.service/workers\n").as_deref(), Some("web@1.service"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/tunnel.service";
        assert_eq!(of(user).as_deref(), Some("tunnel.service"));
        assert_eq!(of("0::/user.slice/user-0.slice/session-3.scope").as_deref(), Some("session-3.scope"));
        assert_eq!((of("0::/\n"), of("")), (None, None));
    }
}
