//! Ruleset files, read with what the host knows: the files that they name, and the interfaces of the namespace.

mod last_good;
mod text;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use inlet_core::config::{self, Host, NoInterface, Parsed, Source};
use inlet_core::{Interface, InterfaceName, Ruleset, ServiceName, Services};

pub use self::last_good::LastGood;
pub use self::text::{read_stdin, read_text};

use crate::described;
use crate::error::{Error, Result};
use crate::kernel::Netns;

/// Reads a ruleset file for a namespace. Services that `old` has keep their numbers; interfaces that it has may be
/// gone, others must be there.
///
/// # Errors
/// [`crate::FileError::Wrong`] with all that is wrong with the file.
pub fn read_ruleset(file: Source, netns: &Netns, old: &Ruleset) -> Result<Parsed> {
    read_reserving(file, netns, old, None)
}

/// The same for a commit: `reserved` are services that one can still go back to.
pub(crate) fn read_reserving(
    file: Source,
    netns: &Netns,
    old: &Ruleset,
    reserved: Option<&Services>,
) -> Result<Parsed> {
    let mut host = Surroundings { netns, known: old.interfaces(), reserved };
    Ok(config::parse(file, old, &mut host)?)
}

/// What new descriptions name and what is not there, service by service. Those in force were looked up before: a unit
/// that is stopped must not keep its file from being applied once more.
pub(crate) fn not_there<'a>(old: &'a Ruleset, new: &'a Ruleset) -> impl Iterator<Item = (&'a ServiceName, Error)> {
    let in_force = |name: &ServiceName| {
        let services = old.services();
        services.get(services.id(name.as_str())?)?.description.as_ref()
    };
    let described =
        new.services().iter().filter_map(|(_, service)| Some((&service.name, service.description.as_ref()?)));
    let changed = described.filter(move |(name, description)| in_force(name) != Some(*description));
    changed.filter_map(|(name, description)| Some((name, described::check_there(description).err()?)))
}

struct Surroundings<'a> {
    netns: &'a Netns,
    known: &'a [Interface],
    reserved: Option<&'a Services>,
}

impl Host for Surroundings<'_> {
    fn real_path(&mut self, path: &Path) -> std::result::Result<PathBuf, String> {
        std::fs::canonicalize(path).map_err(|cause| unreadable(path, &cause))
    }

    fn read(&mut self, path: &Path) -> std::result::Result<String, String> {
        read_text(path).map_err(|cause| unreadable(path, &cause))
    }

    fn files_in(&mut self, directory: &Path) -> std::result::Result<Option<Vec<String>>, String> {
        if !directory.is_dir() {
            return Ok(None);
        }
        let failed = |cause: std::io::Error| unreadable(directory, &cause);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        Ok(Some(names.into_iter().filter_map(|name| name.into_string().ok()).filter(|name| is_ruleset(name)).collect()))
    }

    fn interface(&mut self, name: &InterfaceName) -> std::result::Result<u32, NoInterface> {
        self.netns
            .index_of(name, self.known)
            .map_err(|error| NoInterface { message: error.to_string(), remedy: error.remedy().map(Cow::into_owned) })
    }

    fn reserved(&self) -> Option<&Services> {
        self.reserved
    }
}

/// Whether a file of a directory belongs to its ruleset, by its name. What editors and dpkg leave there does not.
fn is_ruleset(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(".toml") || name.ends_with(".json"))
}

fn unreadable(path: &Path, cause: &std::io::Error) -> String {
    format!("cannot read {}: {cause}", path.display())
}
