//! Programs beside the lookup: pinned links to the root of the control groups and to interfaces, and the steps that
//! make, replace and take away pins so that a crash leaves one that can be found.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use crate::error::{Cause, DescribeError, Error, Result};
use crate::kernel::{Cgroups, raw};
use crate::state::Readers;

/// Attaches a program to the root of the control groups, and pins the link.
pub(crate) fn attach_to_root(
    program: BorrowedFd<'_>,
    kind: libbpf_sys::bpf_attach_type,
    path: &Path,
    cgroups: &Cgroups,
) -> Result<()> {
    // What is left of one whose control group is gone.
    remove_pin(path)?;
    let link = raw::link_cgroup(program, cgroups.as_fd(), kind);
    let link = link.map_err(|cause| full(cause, cgroups.root()))?;
    raw::pin(link.as_fd(), path).map_err(Error::at("pin", path))
}

/// The kernel has room for 64 programs of a kind at a control group.
fn full(cause: io::Error, root: &Path) -> Error {
    match cause.raw_os_error() {
        Some(libc::E2BIG) => DescribeError::CgroupFull { root: root.to_owned(), cause }.into(),
        _ => Error::at("attach to", root)(cause),
    }
}

/// Whether a link is pinned there, and what it is attached to is still there: the hierarchy of control groups may have been
/// mounted anew, an interface may have gone.
pub(crate) fn is_attached(path: &Path) -> Result<bool> {
    match raw::open_pin(path) {
        Ok(link) => runs(link.as_fd()).map_err(Error::at("look at", path)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(Error::at("open", path)(cause)),
    }
}

/// Whether a link to a control group or an interface runs: it does until that goes, and the information then lacks its
/// number.
fn runs(link: BorrowedFd<'_>) -> io::Result<bool> {
    let info = LinkInfo::from_fd(link).map_err(Cause::into_io)?;
    Ok(match info.info {
        LinkTypeInfo::Cgroup(group) => group.cgroup_id != 0,
        LinkTypeInfo::Tcx(tcx) => tcx.ifindex != 0,
        _ => false,
    })
}

/// Makes a directory of pins for readers.
pub(crate) fn make_dir(path: &Path, readers: Readers) -> Result<()> {
    make_marker(path)?;
    readers.admit_to_dir(path)
}

/// Detaches a link at once, and removes its pin. Without that the kernel detaches it some time after the pin is gone.
pub(crate) fn detach(path: &Path) -> Result<()> {
    match raw::open_pin(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        // One whose control group or interface is gone is detached already.
        Ok(link) => _ = raw::link_detach(link.as_fd()),
        Err(cause) => return Err(Error::at("open", path)(cause)),
    }
    remove_pin(path)
}

/// Pins an object in place of another one, so that one of the two is there at any time.
pub(crate) fn replace(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-new");
    let new = Path::new(&name);
    remove_pin(new)?;
    raw::pin(object, new).map_err(Error::at("pin", new))?;
    std::fs::rename(new, path).map_err(Error::at("replace", path))
}

/// Makes a directory that is not there.
pub(crate) fn make_marker(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(Error::at("make", path)(cause)),
        _ => Ok(()),
    }
}

/// Removes a pin. What is not there is fine.
pub(crate) fn remove_pin(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::at("remove", path)(cause)),
        _ => Ok(()),
    }
}
