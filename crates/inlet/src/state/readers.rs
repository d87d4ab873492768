//! Who may read: the group and the modes of pins.

use std::fmt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::process::Gid;

use crate::error::{Error, Result, StateError};

/// The group that may read an instance beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readers(Option<Gid>);

impl fmt::Display for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("only its owner"),
            Some(gid) => write!(f, "group {}", gid.as_raw()),
        }
    }
}

impl Readers {
    /// Nobody but the owner, or the group of this name.
    pub(crate) fn named(group: Option<&str>) -> Result<Self> {
        let Some(name) = group else { return Ok(Self(None)) };
        let unknown = || Error::State(StateError::UnknownGroup(name.to_owned()));
        let found = nix::unistd::Group::from_name(name)
            .map_err(|errno| Error::os("look up group", name)(std::io::Error::from(errno)))?;
        Ok(Self(Some(Gid::from_raw(found.ok_or_else(unknown)?.gid.as_raw()))))
    }

    /// The group that may read the directory of an instance.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let found = rustix::fs::stat(dir).map_err(Error::at("look at", dir))?;
        Ok(Self(Some(Gid::from_raw(found.st_gid))))
    }

    /// Lets them enter and list a directory.
    pub(crate) fn admit_to_dir(self, dir: &Path) -> Result<()> {
        self.admit(dir, 0o750)
    }

    /// Lets them read a map.
    pub(crate) fn admit_to_map(self, pin: &Path) -> Result<()> {
        self.admit(pin, 0o640)
    }

    fn admit(self, path: &Path, mode: u32) -> Result<()> {
        if let Self(Some(gid)) = self {
            chown(path, None, Some(gid.as_raw())).map_err(Error::at("change the group of", path))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(Error::at("change the mode of", path))
    }
}
