//! All instances of a bpf filesystem, those of other network namespaces and those of namespaces that ended too.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use super::in_force::open_link;
use super::layout::{Files, Location};
use super::lock::Exclusive;
use super::maps::{STATE_FORMAT, format_of};
use super::pins::remove_all;
use crate::error::{Cause, Error, Result};
use crate::kernel::{Visible, visible};

/// An instance, in whatever namespace it is.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The number of its namespace.
    pub cookie: u64,
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

impl Listed {
    /// The format that this version writes.
    pub const FORMAT: u32 = STATE_FORMAT;

    /// Whether its namespace has ended: nothing is steered, and there is no such namespace any more.
    pub fn has_ended(&self) -> bool {
        !self.steers && self.location.is_none()
    }

    /// Removes what is left of an instance whose namespace has ended. `false` when it has not.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(&self) -> Result<bool> {
        let Some(_lock) = Exclusive::on(&self.directory)?.filter(|_| self.has_ended()) else { return Ok(false) };
        remove_all(&self.directory).map(|()| true)
    }
}

/// All instances of a bpf filesystem, by the number of their namespace.
///
/// # Errors
/// Those of reading the directory of all instances; it need not be there.
pub fn list(bpffs: &Path) -> Result<Vec<Listed>> {
    let root = bpffs.join("inlet");
    let entries = match std::fs::read_dir(&root) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::at("read", &root))?,
    };
    let mut cookies = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::at("read", &root))?.file_name();
        let cookie: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("netns-")).and_then(|it| it.parse().ok());
        cookies.extend(cookie);
    }
    cookies.sort_unstable();
    let namespaces = if cookies.is_empty() { Vec::new() } else { visible() };
    Ok(cookies.into_iter().map(|cookie| look_at(bpffs, &root, cookie, &namespaces)).collect())
}

fn look_at(bpffs: &Path, root: &Path, cookie: u64, namespaces: &[Visible]) -> Listed {
    let files = Files(root.join(format!("netns-{cookie}")));
    let of = namespaces.iter().find(|visible| visible.netns.cookie() == cookie);
    Listed {
        cookie,
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
