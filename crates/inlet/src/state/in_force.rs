//! Which generation is in force, and the removal of what an interrupted commit left.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use inlet_core::{Ruleset, image};
use libbpf_rs::Program;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use super::frozen::read_words;
use super::layout::Files;
use crate::error::{Error, Result, StateError};
use crate::kernel::raw;

/// The generations of an instance as they were found.
#[derive(Debug)]
pub(crate) struct Generations {
    /// The one that the link runs.
    pub(crate) in_force: u64,
    /// Others, left by a commit that did not end.
    pub(crate) left: Vec<u64>,
}

/// What is to be seen of the pin of a link.
pub(crate) enum LinkPin {
    /// It can be opened.
    There,
    /// It is there, and not for us to open.
    Closed,
    /// It is not there.
    Gone,
}

/// Looks at the pin of the link of an instance.
pub(crate) fn link_pin(files: &Files) -> Result<LinkPin> {
    match raw::open_pin(&files.link()) {
        Ok(_) => Ok(LinkPin::There),
        Err(cause) => match cause.kind() {
            ErrorKind::NotFound => Ok(LinkPin::Gone),
            ErrorKind::PermissionDenied => Ok(LinkPin::Closed),
            _ => Err(Error::at("open", &files.link())(cause)),
        },
    }
}

/// Opens the link of an instance.
pub(crate) fn open_link(files: &Files) -> Result<OwnedFd> {
    raw::open_pin(&files.link()).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Error::State(StateError::LinkGone { path: files.link(), held: false }),
        _ => Error::at("open", &files.link())(cause),
    })
}

/// Asks the kernel which generation the link runs.
pub(crate) fn generations(files: &Files, link: BorrowedFd<'_>) -> Result<Generations> {
    let running = running_program(files, link)?;
    let all: BTreeSet<u64> = files.generations()?.into_iter().collect();
    let mut in_force = None;
    for number in &all {
        // An error says nothing about whose the program is.
        if program_of(files, *number)? == Some(running) {
            in_force = Some(*number);
            break;
        }
    }
    let in_force =
        in_force.ok_or_else(|| Error::State(StateError::ForeignProgram { path: files.link(), program: running }))?;
    let left = all.into_iter().filter(|number| *number != in_force).collect();
    Ok(Generations { in_force, left })
}

/// The number of the program that the link runs in its namespace.
fn running_program(files: &Files, link: BorrowedFd<'_>) -> Result<u32> {
    let info = LinkInfo::from_fd(link).map_err(Error::at("look at", &files.link()))?;
    match info.info {
        LinkTypeInfo::NetNs(netns) if netns.ino != 0 => Ok(info.prog_id),
        _ => Err(Error::State(StateError::Detached { path: files.0.clone() })),
    }
}

/// The number of the program of a generation; `None` when it was not pinned yet.
pub(super) fn program_of(files: &Files, number: u64) -> Result<Option<u32>> {
    let path = files.generation(number).program();
    match raw::open_pin(&path) {
        Ok(fd) => Program::id_from_fd(fd.as_fd()).map(Some).map_err(Error::at("look at", &path)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::at("open", &path)(cause)),
    }
}

/// The ruleset of the generation that the link runs.
pub(crate) fn ruleset_in_force(files: &Files) -> Result<Ruleset> {
    read_ruleset(&files.generation(generation_in_force(files)?).image())
}

/// The generation that the link runs. Who may not open the link knows it too, unless a commit was interrupted.
pub(crate) fn generation_in_force(files: &Files) -> Result<u64> {
    match open_link(files) {
        Ok(link) => Ok(generations(files, link.as_fd())?.in_force),
        // Without the link nothing is steered, and there still is what was.
        Err(Error::State(StateError::LinkGone { .. })) => only_generation(files),
        Err(Error::Os { cause, .. }) if cause.kind() == ErrorKind::PermissionDenied => only_generation(files),
        Err(error) => Err(error),
    }
}

fn only_generation(files: &Files) -> Result<u64> {
    match files.generations()?.as_slice() {
        [only] => Ok(*only),
        _ => Err(Error::State(StateError::Interrupted { path: files.0.clone() })),
    }
}

/// Reads the ruleset that an image carries.
///
/// The kernel maps a map into memory only for those who could write it, though nobody can write a frozen one; others
/// get a copy of it.
pub(crate) fn read_ruleset(path: &Path) -> Result<Ruleset> {
    read_words(path, image::decode)
}
