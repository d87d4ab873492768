//! The `sk_lookup` hook of a namespace: all programs on it, which of them is Inlet's, and whether that one steers.

use std::fmt;
use std::os::fd::AsFd;

use libbpf_rs::Program;

use super::in_force::{LinkPin, link_pin, program_of};
use super::layout::Files;
use crate::error::{Error, Result};
use crate::kernel::{Netns, raw};

/// The programs on the hook of a namespace, in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The programs; `None` when the caller may not list them, which takes CAP_NET_ADMIN.
    pub programs: Option<Vec<HookProgram>>,
    /// Whether the program of Inlet decides about packets.
    pub steering: Steering,
}

/// A program on the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookProgram {
    /// Its number.
    pub id: u32,
    /// Its name; `None` when the caller may not see it, which takes CAP_SYS_ADMIN.
    pub name: Option<String>,
    /// Whether it is the program of this instance.
    pub ours: bool,
}

/// Whether the program of Inlet decides about packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// It does.
    Yes,
    /// It does not: the pin of its link is gone, and the link with it.
    No,
    /// It does, but the pin of its link is gone: it ends with the process that has the link open.
    Unpinned,
    /// The caller may not know.
    Unknown,
}

impl fmt::Display for HookProgram {
    /// `id 12 (name)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) if !name.is_empty() => write!(f, "id {} ({name})", self.id),
            _ => write!(f, "id {}", self.id),
        }
    }
}

impl Hook {
    /// Looks at the hook of a namespace and at the link of its instance.
    pub(crate) fn of(netns: &Netns, files: &Files, generation: u64) -> Result<Self> {
        let ours = match program_of(files, generation) {
            // A reader in the group may not open it, nor list the hook.
            Err(Error::Os { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => None,
            known => known?,
        };
        let programs = raw::lookup_programs(netns.as_fd()).ok().map(|ids| {
            let program = |id| HookProgram { id, name: name(id), ours: Some(id) == ours };
            ids.into_iter().map(program).collect::<Vec<_>>()
        });
        let is_there = programs.as_ref().map(|all| all.iter().any(|program| program.ours));
        let steering = match (link_pin(files)?, is_there) {
            (LinkPin::There, _) => Steering::Yes,
            (LinkPin::Gone, Some(true)) => Steering::Unpinned,
            (LinkPin::Gone, _) => Steering::No,
            (LinkPin::Closed, _) => Steering::Unknown,
        };
        Ok(Self { programs, steering })
    }

    /// The programs of others that run before Inlet's, and those that run after it.
    pub fn others(&self) -> (&[HookProgram], &[HookProgram]) {
        let all = self.programs.as_deref().unwrap_or_default();
        match all.iter().position(|program| program.ours) {
            Some(at) => (&all[..at], &all[at + 1..]),
            None => (all, &[]),
        }
    }
}

fn name(id: u32) -> Option<String> {
    let program = Program::fd_from_id(id).ok()?;
    raw::program_name(program.as_fd()).ok()
}
