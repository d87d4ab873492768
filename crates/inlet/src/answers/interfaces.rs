//! The program that sets source ports, on every interface of the namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::query::LinkInfo;

use super::clsact;
use crate::error::{Cause, Error, Result};
use crate::fault;
use crate::kernel::{Link, Links, Netns, raw};
use crate::program::{detach, is_attached, remove_pin};
use crate::state::{AnswerFiles, is_there, set_covered};

/// Attaches the program to every interface that does not have it, and forgets interfaces that are gone.
pub(super) fn cover(files: &AnswerFiles, program: &OwnedFd, netns: &Netns) -> Result<()> {
    let links = Links::of(netns)?;
    for index in files.interfaces()? {
        if links.get(index).is_none() {
            detach(&files.interface(index))?;
            remove_pin(&files.filtered(index))?;
        }
    }
    let mut covered = Vec::new();
    let result = links.iter().try_for_each(|link| {
        let mut has_it = has(files, program, netns, link)?;
        if !has_it {
            has_it = attach(files, program, netns, link)?;
            fault::point("answers:interface");
        }
        covered.extend(has_it.then_some(link.index));
        Ok(())
    });
    // Answers to questions that came in elsewhere are counted.
    set_covered(files, &covered)?;
    result
}

/// Whether an interface has the program, as a link or as a filter.
fn has(files: &AnswerFiles, program: &OwnedFd, netns: &Netns, to: &Link) -> Result<bool> {
    Ok(is_attached(&files.interface(to.index))?
        || is_there(&files.filtered(to.index))? && clsact::is_attached(program.as_fd(), to.index, netns)?)
}

/// Attaches the program to interfaces that came, where answers need it.
pub(crate) fn cover_again(files: &AnswerFiles, netns: &Netns) -> Result<()> {
    match raw::open_pin(&files.port()) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        program => cover(files, &program.map_err(Error::at("open", &files.port()))?, netns),
    }
}

/// The interfaces that do not have the program. Who may not look at links and programs goes by the pins, which stay when an
/// interface goes and another one gets its index.
pub(crate) fn uncovered(files: &AnswerFiles, netns: &Netns) -> Result<Vec<String>> {
    let pinned = files.interfaces()?;
    let program = match raw::open_pin(&files.port()) {
        Err(cause) if is_withheld(cause.kind()) => None,
        program => Some(program.map_err(Error::at("open", &files.port()))?),
    };
    let mut lacking = Vec::new();
    for link in Links::of(netns)?.iter() {
        let has_it = match &program {
            Some(program) if pinned.contains(&link.index) => may_have(files, program, netns, link)?,
            _ => pinned.contains(&link.index),
        };
        lacking.extend((!has_it).then(|| link.name.clone()));
    }
    Ok(lacking)
}

/// Programs of others that run before ours.
pub(crate) struct InFront {
    /// The interface.
    pub(crate) interface: String,
    /// Their numbers, in the order in which they run.
    pub(crate) ids: Vec<u32>,
}

/// The interfaces on which programs of others run before ours; `None` for who may not ask. Kernels before
/// 6.6 have no such programs.
pub(crate) fn in_front(files: &AnswerFiles, netns: &Netns) -> Result<Option<Vec<InFront>>> {
    let mut found = Vec::new();
    for link in Links::of(netns)?.iter() {
        let pinned = match raw::open_pin(&files.interface(link.index)) {
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            // It is not covered, or by a filter.
            Err(_) => continue,
            Ok(pinned) => pinned,
        };
        let mut ids = match netns.run(|| raw::egress_programs(link.index))? {
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            // It went meanwhile.
            Err(_) => continue,
            Ok(ids) => ids,
        };
        let Ok(own) = LinkInfo::from_fd(pinned.as_fd()) else { continue };
        let Some(at) = ids.iter().position(|id| *id == own.prog_id) else { continue };
        ids.truncate(at);
        found.extend((at > 0).then(|| InFront { interface: link.name.clone(), ids }));
    }
    Ok(Some(found))
}

/// Whether an interface with a pin has the program, as far as that can be looked at.
fn may_have(files: &AnswerFiles, program: &OwnedFd, netns: &Netns, to: &Link) -> Result<bool> {
    match has(files, program, netns, to) {
        Err(Error::Os { cause, .. }) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        has => has,
    }
}

fn is_withheld(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

/// Gives whether the interface has it then: it may be gone.
fn attach(files: &AnswerFiles, program: &OwnedFd, netns: &Netns, to: &Link) -> Result<bool> {
    // What is left of an interface that is gone, and had this index.
    detach(&files.interface(to.index))?;
    remove_pin(&files.filtered(to.index))?;
    let link = match fault::lacks("tcx") {
        true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        false => netns.run(|| raw::link_egress(program.as_fd(), to.index))?,
    };
    match link {
        // It went meanwhile.
        Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        // A kernel before 6.6 does not know such links.
        Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => filter(files, program, netns, to).map(|()| true),
        link => {
            let path = files.interface(to.index);
            raw::pin(link.map_err(refused(to))?.as_fd(), &path).map_err(Error::at("pin", &path)).map(|()| true)
        }
    }
}

/// Attaches it as a filter. A pin of the program says so: made before, so that whatever is attached is found again.
fn filter(files: &AnswerFiles, program: &OwnedFd, netns: &Netns, to: &Link) -> Result<()> {
    let path = files.filtered(to.index);
    raw::pin(program.as_fd(), &path).map_err(Error::at("pin", &path))?;
    clsact::attach(program.as_fd(), to.index, netns)?.map_err(refused(to))
}

fn refused<E: Cause>(to: &Link) -> impl FnOnce(E) -> Error {
    Error::os("attach to what leaves through", to.name.clone())
}

/// Detaches the program from every interface.
pub(super) fn uncover(files: &AnswerFiles, netns: &Netns) -> Result<()> {
    set_covered(files, &[])?;
    for index in files.interfaces()? {
        detach(&files.interface(index))?;
        let path = files.filtered(index);
        if let Ok(program) = raw::open_pin(&path) {
            clsact::detach(program.as_fd(), index, netns)?;
        }
        remove_pin(&path)?;
        fault::point("answers:uncovered");
    }
    Ok(())
}
