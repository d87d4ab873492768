//! The last good ruleset of a namespace: a plain file in which it outlives a reboot.
//!
//! It is for boots at which the ruleset file of the operator cannot be applied. Nothing else reads it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use inlet_core::Ruleset;
use inlet_core::config::{self, Routes, Source};

use super::read_text;
use crate::error::{Error, FileError, Result};
use crate::state::{DEFAULT_BPFFS, Location};

/// Where these files are. The package makes the directory; without it nothing is kept.
const DIRECTORY: &str = "/var/lib/inlet";

/// Where the last good ruleset of a namespace is.
#[derive(Clone, Debug)]
pub struct LastGood(PathBuf);

impl LastGood {
    /// That of an instance in the usual bpf filesystem, for the namespace of process 1 or for one that `ip netns` names.
    /// `None`: others have no name that outlives a reboot.
    pub fn of(location: &Location) -> Option<Self> {
        if location.bpffs() != Path::new(DEFAULT_BPFFS) || !Path::new(DIRECTORY).is_dir() {
            return None;
        }
        let file = match location.netns().lasting_name()? {
            None => "last-good.json".to_owned(),
            Some(name) => format!("last-good-{name}.json"),
        };
        Some(Self(Path::new(DIRECTORY).join(file)))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps a ruleset, whole or not at all.
    ///
    /// # Errors
    /// [`FileError::NotKept`].
    pub fn keep(&self, ruleset: &Ruleset, routes: Routes) -> Result<()> {
        self.write(ruleset, routes).map_err(|cause| Error::File(FileError::NotKept { path: self.0.clone(), cause }))
    }

    fn write(&self, ruleset: &Ruleset, routes: Routes) -> io::Result<()> {
        let mut text = Vec::new();
        config::write(ruleset, routes, &mut text)?;
        if std::fs::read(&self.0).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let aside = self.0.with_extension("new");
        let written = File::create(&aside).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| std::fs::rename(&aside, &self.0));
        if renamed.is_err() {
            // What was kept before stays; a part of what was to follow is of no use.
            let _ = std::fs::remove_file(&aside);
        }
        renamed.and_then(|()| File::open(DIRECTORY)?.sync_all())
    }

    /// Reads it; `None` when none was kept yet.
    ///
    /// # Errors
    /// [`FileError::Unreadable`].
    pub fn read(&self) -> Result<Option<Source>> {
        match read_text(&self.0) {
            Ok(text) => Ok(Some(Source::file(&self.0, text))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::File(FileError::Unreadable { path: self.0.clone(), cause })),
        }
    }
}
