//! Which generation is in force, and the removal of what an interrupted commit left.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::Program;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use crate::error::{Error, Result};
use crate::kernel::raw;
use crate::layout::Files;

/// The generations of an instance as they were found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The one that the link runs.
    pub(crate) in_force: u64,
    /// Others, left by a commit that did not end.
    pub(crate) left: Vec<u64>,
}

/// Opens the link of an instance.
pub(crate) fn open_link(files: &Files) -> Result<OwnedFd> {
    raw::open_pin(&files.link()).map_err(Error::at("open", &files.link()))
}

/// Asks the kernel which generation the link runs.
pub(crate) fn find(files: &Files, link: BorrowedFd<'_>) -> Result<Found> {
    let running = running_program(files, link)?;
    let all: BTreeSet<u64> = files.generations()?.into_iter().collect();
    let runs = |number: &u64| program_of(files, *number) == Some(running);
    let in_force =
        all.iter().copied().find(runs).ok_or_else(|| Error::ForeignProgram { path: files.link(), program: running })?;
    let left = all.into_iter().filter(|number| *number != in_force).collect();
    Ok(Found { in_force, left })
}

/// The number of the program that the link runs in its namespace.
fn running_program(files: &Files, link: BorrowedFd<'_>) -> Result<u32> {
    let info = LinkInfo::from_fd(link).map_err(Error::at("look at", &files.link()))?;
    match info.info {
        LinkTypeInfo::NetNs(netns) if netns.ino != 0 => Ok(info.prog_id),
        _ => Err(Error::Detached { path: files.0.clone() }),
    }
}

/// The number of the program of a generation; `None` when it was not pinned yet.
fn program_of(files: &Files, number: u64) -> Option<u32> {
    let fd = raw::open_pin(&files.generation(number).program()).ok()?;
    Program::id_from_fd(fd.as_fd()).ok()
}
