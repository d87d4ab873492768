//! Ruleset files, read with what the host knows: the files that they name, and the interfaces of the namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use inlet_core::config::{self, Host, NoInterface, Parsed, Routes, Source};
use inlet_core::{Interface, InterfaceName, Ruleset, ServiceName};

use crate::commit::Committed;
use crate::described;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::netns::Netns;
use crate::snapshot::Snapshot;
use crate::text::read_text;

/// How a ruleset file comes into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Within which time it has to be confirmed, as for [`Instance::replace_to_confirm`].
    pub confirm_within: Option<Duration>,
    /// Whether units, control groups and users that descriptions name need not be there yet.
    pub later: bool,
}

impl Instance {
    /// Makes the ruleset of a file the whole ruleset. Inlet keeps the local routes from then on when the file says so, or
    /// [`Instance::keep_routes`] did.
    ///
    /// # Errors
    /// [`Error::Config`] with all that is wrong with the file, [`Error::NoUnit`], [`Error::NoCgroup`] and
    /// [`Error::UnknownUser`] for what a new description names, and those of [`Instance::replace`]. Nothing is changed then.
    pub fn apply(&mut self, file: Source) -> Result<Committed> {
        self.apply_with(file, ApplyOptions::default())
    }

    /// [`Instance::apply`] with options.
    ///
    /// # Errors
    /// As for [`Instance::apply`], and [`Error::Unconfirmed`].
    pub fn apply_with(&mut self, file: Source, options: ApplyOptions) -> Result<Committed> {
        let parsed = self.parse(file)?;
        if !options.later
            && let Some((_, error)) = not_there(self.ruleset()?, &parsed.ruleset).next()
        {
            return Err(error);
        }
        self.keep_routes(parsed.routes == Routes::Manage || self.routes_next == Some(true));
        self.replace_to_confirm(parsed.ruleset, options.confirm_within)
    }

    /// Reads a ruleset file, with the services and interfaces of what is in force.
    ///
    /// # Errors
    /// [`Error::Config`] with all that is wrong with the file.
    pub fn parse(&self, file: Source) -> Result<Parsed> {
        read_ruleset(file, self.location.netns(), self.ruleset()?)
    }
}

impl Snapshot {
    /// [`Instance::parse`] for readers.
    ///
    /// # Errors
    /// As there.
    pub fn parse(&self, file: Source) -> Result<Parsed> {
        read_ruleset(file, self.location.netns(), self.ruleset())
    }
}

/// Reads a ruleset file for a namespace. Services that `old` has keep their numbers; interfaces that it has may be gone,
/// others must be there.
///
/// # Errors
/// [`Error::Config`] with all that is wrong with the file.
pub fn read_ruleset(file: Source, netns: &Netns, old: &Ruleset) -> Result<Parsed> {
    let mut host = Surroundings { netns, known: old.interfaces() };
    Ok(config::parse(file, old, &mut host)?)
}

/// What new descriptions name and what is not there, service by service. Those in force were looked up before: a unit that is
/// stopped must not keep its file from being applied once more.
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
}

impl Host for Surroundings<'_> {
    fn real_path(&mut self, path: &Path) -> std::result::Result<PathBuf, String> {
        std::fs::canonicalize(path).map_err(|cause| unreadable(path, &cause))
    }

    fn read(&mut self, path: &Path) -> std::result::Result<String, String> {
        read_text(path).map_err(|cause| unreadable(path, &cause))
    }

    fn interface(&mut self, name: &InterfaceName) -> std::result::Result<u32, NoInterface> {
        interface_index(self.netns, self.known, name).map_err(no_interface)
    }
}

fn no_interface(error: Error) -> NoInterface {
    let (message, remedy) = match error {
        Error::UnknownInterface { name, netns } => {
            (format!("no interface {name:?} in {netns}"), "see: ip link".to_owned())
        }
        Error::AlternativeName { given, name } => {
            (format!("{given:?} is another name of interface {name:?}"), format!("write {name}"))
        }
        other => return NoInterface { message: other.to_string(), remedy: None },
    };
    NoInterface { message, remedy: Some(remedy) }
}

fn unreadable(path: &Path, cause: &std::io::Error) -> String {
    format!("cannot read {}: {cause}", path.display())
}

/// The index of an interface that a rule names. One that has been named before may be gone meanwhile, or have got
/// another name; its rules then match nothing, and keep nobody from changing others.
pub(crate) fn interface_index(netns: &Netns, known: &[Interface], name: &InterfaceName) -> Result<u32> {
    let is_known = known.iter().any(|interface| interface.name == *name);
    match netns.interface_index(name) {
        // Another interface than the rule was made for may have the name as a second one.
        Ok(None) | Err(Error::AlternativeName { .. }) if is_known => Ok(0),
        Ok(Some(index)) => Ok(index),
        Ok(None) => Err(Error::UnknownInterface { name: name.to_string(), netns: netns.label().to_owned() }),
        Err(error) => Err(error),
    }
}
