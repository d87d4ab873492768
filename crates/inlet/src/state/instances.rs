//! All instances of a bpf filesystem, those of other network namespaces and those of namespaces that ended too; and what
//! commands left that were interrupted while they made or removed one.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use super::in_force::open_link;
use super::layout::{Files, Location};
use super::lock::Exclusive;
use super::maps::{STATE_FORMAT, format_of};
use super::pins::remove_all;
use super::root::Root;
use crate::error::{Cause, Error, Result};
use crate::kernel::{Visible, visible};

/// An instance, in whatever namespace it is; or one that is only half there.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The number of its namespace.
    pub cookie: u64,
    /// What was begun with it and is not done; `None` for an instance.
    pub unfinished: Option<Unfinished>,
    /// Its directory.
    pub directory: PathBuf,
    /// Where it is, when its namespace can be found.
    pub location: Option<Location>,
    /// How to name the namespace for `--netns`; `None` for that of the caller, and when it cannot be found.
    pub netns: Option<String>,
    /// Whether its link is attached to a namespace, found or not.
    pub steers: bool,
    /// The number of the format of its state; `None` when it cannot be read.
    pub format: Option<u32>,
}

/// What makes a directory that is no instance: a command that runs now, or one that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfinished {
    /// An instance is being made.
    Up,
    /// An instance is being removed.
    Down,
    /// An instance of an older format is being taken over: what takes its place, or what it was.
    Takeover,
}

/// How the names of directories begin, and what they are.
const STAGES: [(&str, Option<Unfinished>); 4] = [
    ("netns", None),
    ("new", Some(Unfinished::Up)),
    ("old", Some(Unfinished::Down)),
    ("next", Some(Unfinished::Takeover)),
];

impl Listed {
    /// The format that this version writes.
    pub const FORMAT: u32 = STATE_FORMAT;

    /// Whether its namespace has ended: nothing is steered, and there is no such namespace any more.
    pub fn has_ended(&self) -> bool {
        !self.steers && self.location.is_none()
    }

    /// Removes what is left of an instance whose namespace has ended. `false` when it has not.
    pub(crate) fn remove_ended(&self) -> Result<bool> {
        let _lock = Exclusive::on(&self.directory)?;
        match self.has_ended() {
            true => remove_all(&self.directory).map(|()| true),
            false => Ok(false),
        }
    }

    /// The directory of the instance itself.
    pub(crate) fn published(&self) -> PathBuf {
        self.directory.with_file_name(format!("netns-{}", self.cookie))
    }
}

/// All instances of a bpf filesystem, by the number of their namespace, and then what is only half there.
///
/// # Errors
/// Those of reading the directory of all instances; it need not be there.
pub fn list(bpffs: &Path) -> Result<Vec<Listed>> {
    let root = Root::of(bpffs);
    let entries = match std::fs::read_dir(root.path()) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::at("read", root.path()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::at("read", root.path()))?.file_name();
        found.extend(name.to_str().and_then(stage_and_cookie));
    }
    found.sort_unstable();
    let namespaces = if found.is_empty() { Vec::new() } else { visible() };
    Ok(found.into_iter().map(|found| look_at(bpffs, &root, found, &namespaces)).collect())
}

/// What the name of a directory says; `None` when it is not one of ours.
fn stage_and_cookie(name: &str) -> Option<(Option<Unfinished>, u64)> {
    let (stage, cookie) = name.split_once('-')?;
    let (_, unfinished) = STAGES.into_iter().find(|(known, _)| *known == stage)?;
    Some((unfinished, cookie.parse().ok()?))
}

fn look_at(
    bpffs: &Path,
    root: &Root,
    (unfinished, cookie): (Option<Unfinished>, u64),
    namespaces: &[Visible],
) -> Listed {
    let stage = STAGES.into_iter().find(|(_, stage)| *stage == unfinished).map_or("netns", |(name, _)| name);
    let files = Files(root.at(stage, cookie));
    let of = namespaces.iter().find(|visible| visible.netns.cookie() == cookie);
    Listed {
        cookie,
        unfinished,
        location: of.map(|visible| Location::new(bpffs, visible.netns.clone())),
        netns: of.and_then(|visible| visible.name.clone()),
        // What cannot be looked at may steer.
        steers: is_attached(&files).unwrap_or(true),
        format: format_of(&files).ok(),
        directory: files.0,
    }
}

fn is_attached(files: &Files) -> Result<bool> {
    let link = match open_link(files) {
        Err(Error::State(crate::error::StateError::LinkGone { .. })) => return Ok(false),
        link => link?,
    };
    let info = LinkInfo::from_fd(link.as_fd()).map_err(Cause::into_io).map_err(Error::at("look at", &files.link()))?;
    Ok(matches!(info.info, LinkTypeInfo::NetNs(netns) if netns.ino != 0))
}
