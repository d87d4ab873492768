//! Control groups (cgroup v2): where their filesystem is mounted, and where the one of a unit is.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inlet_core::{CgroupPath, Confine, MAX_DEPTH, UnitName};

use crate::error::{DescribeError, Error, Result};

/// The inode of the root of all control groups (`CGROUP_ROOT`'s kernfs id), which a cgroup namespace hides.
const ROOT_INODE: u64 = 1;

/// The mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: PathBuf,
    handle: File,
}

impl Cgroups {
    /// Finds the hierarchy among the mounts of this process.
    pub(crate) fn find() -> Result<Self> {
        let mounts =
            std::fs::read("/proc/thread-self/mountinfo").map_err(Error::os("read", "/proc/thread-self/mountinfo"))?;
        let root = root_in(&mounts).ok_or(Error::Describe(DescribeError::NoCgroups))?;
        let handle = File::open(&root).map_err(Error::at("open", &root))?;
        Ok(Self { root, handle })
    }

    /// The same, when it is the whole hierarchy.
    pub(crate) fn find_whole() -> Result<Self> {
        let found = Self::find()?;
        found.check_whole()?;
        Ok(found)
    }

    /// The directory of the root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The names on the way to where a description confines sockets to. A unit that is not there is expected where
    /// systemd puts units without a slice of their own.
    pub(crate) fn path_of(&self, confine: &Confine) -> Result<Vec<String>> {
        self.check_whole()?;
        let path = match confine {
            Confine::Cgroup(path) => path.as_str().to_owned(),
            Confine::Unit(unit) => self.unit(unit)?.unwrap_or_else(|| usual_place(unit)),
        };
        Ok(path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Fails when what a description confines sockets to does not exist.
    pub(crate) fn check(&self, confine: &Confine) -> Result<()> {
        self.check_whole()?;
        match confine {
            Confine::Cgroup(path) if !is_dir(&self.dir(path))? => {
                Err(Error::Describe(DescribeError::NoCgroup(path.as_str().to_owned())))
            }
            Confine::Unit(unit) if self.unit(unit)?.is_none() => {
                Err(Error::Describe(DescribeError::NoUnit(unit.as_str().to_owned())))
            }
            _ => Ok(()),
        }
    }

    /// The numbers of the control group that a description confines sockets to, and of all below it. There is none when
    /// it is not there.
    pub(crate) fn numbers_below(&self, confine: &Confine) -> Result<BTreeSet<u64>> {
        use std::os::unix::fs::DirEntryExt;
        let dir = self.path_of(confine)?.iter().fold(self.root.clone(), |dir, name| dir.join(name));
        // The number of a group is that of its inode (`cgroup_id`).
        let number = |dir: &Path| rustix::fs::stat(dir).ok().map(|found| found.st_ino);
        let mut numbers: BTreeSet<u64> = number(&dir).into_iter().collect();
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                numbers.insert(entry.ino());
                dirs.push(entry.path());
            }
        }
        Ok(numbers)
    }

    fn dir(&self, path: &CgroupPath) -> PathBuf {
        self.root.join(path.as_str().trim_start_matches('/'))
    }

    /// Paths are those from the root of all groups, so a part of the hierarchy does not do.
    fn check_whole(&self) -> Result<()> {
        let found = rustix::fs::fstat(&self.handle).map_err(Error::at("look at", &self.root))?;
        if found.st_ino == ROOT_INODE { Ok(()) } else { Err(Error::Describe(DescribeError::CgroupNamespace)) }
    }

    /// The path of a unit of the system: it lies below slices only, so that no user can put another one in its place.
    fn unit(&self, unit: &UnitName) -> Result<Option<String>> {
        let mut slices = vec![(self.root.clone(), String::new())];
        while let Some((dir, path)) = slices.pop() {
            let entries = match std::fs::read_dir(&dir) {
                // It went since it was listed.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(Error::at("read", &dir))?,
            };
            for entry in entries {
                let entry = entry.map_err(Error::at("read", &dir))?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let below = format!("{path}/{name}");
                if name == unit.as_str() {
                    return Ok(Some(below));
                }
                let is_slice = name.ends_with(".slice") && name != "user.slice";
                if is_slice && below.split('/').count() <= MAX_DEPTH {
                    slices.push((entry.path(), below));
                }
            }
        }
        Ok(None)
    }
}

impl AsFd for Cgroups {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Whether there is such a directory. That one cannot look is an error, and no answer.
fn is_dir(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(Error::at("look at", path)(cause)),
    }
}

/// The root among the mounts. Any user can mount something at a path that is no text, where none of ours is.
fn root_in(mounts: &[u8]) -> Option<PathBuf> {
    mounts.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).find_map(mounted_at)
}

/// The directory of a line of mountinfo (proc_pid_mountinfo(5)) when it is one of cgroup v2.
fn mounted_at(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, dir) = (fields.next()?, fields.next()?);
    (filesystem.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(unescaped(dir)))
}

/// Blanks and the like are written as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, meant)| text.replace(code, meant))
}

/// Where systemd puts a unit that names no slice: instances of a template in one of the template's (systemd.slice(5)).
fn usual_place(unit: &UnitName) -> String {
    let name = unit.as_str();
    match name.split_once('@') {
        Some((template, _)) => {
            let slice = template.replace('-', "\\x2d");
            format!("/system.slice/system-{slice}.slice/{name}")
        }
        None if name.ends_with(".slice") => format!("/{name}"),
        None => format!("/system.slice/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_told_apart() {
        let v1 = "33 24 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu";
        let part = "33 24 0:29 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let whole = "34 24 0:30 / /sys/fs/a\\040b rw,nosuid shared:10 - cgroup2 none rw";
        assert_eq!([v1, part, whole].map(mounted_at), [None, None, Some(PathBuf::from("/sys/fs/a b"))]);
        let mounts = [b"35 24 0:31 / /home/u/\xff rw - tmpfs none rw\n".as_slice(), whole.as_bytes()].concat();
        assert_eq!(root_in(&mounts), Some(PathBuf::from("/sys/fs/a b")));
    }

    #[test]
    fn places_of_units_that_do_not_run() {
        let place = |name: &str| usual_place(&name.parse().unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(place("nginx.service"), "/system.slice/nginx.service");
        assert_eq!(place("my-app@1.service"), "/system.slice/system-my\\x2dapp.slice/my-app@1.service");
        assert_eq!(place("web.slice"), "/web.slice");
    }
}
