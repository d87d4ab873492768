//! A ruleset in a text, as it would be in force.

use std::path::Path;

use inlet_core::{Builder, Ruleset};

use crate::error::Result;
use crate::netns::Netns;

/// Reads the ruleset of a text for a namespace. Services that `old` has keep their numbers; an interface that is not
/// there gets index 0, so that its rules match nothing. Files that the text names are taken from `directory`.
///
/// # Errors
/// [`crate::Error::Config`] and [`crate::Error::Build`] when the text is not a ruleset.
pub fn read_ruleset(text: &str, directory: &Path, netns: &Netns, old: &Ruleset) -> Result<Ruleset> {
    let mut builder = Builder::successor_of(old);
    let mut read = |file: &str| {
        let path = directory.join(file);
        std::fs::read_to_string(&path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
    };
    inlet_core::config::parse(text, &mut builder, &mut read)?;
    let names = builder.interfaces().iter().map(|interface| interface.name.clone());
    let indexes =
        names.map(|name| Ok((netns.interface_index(&name)?.unwrap_or(0), name))).collect::<Result<Vec<_>>>()?;
    builder.resolve_interfaces(|name| indexes.iter().find(|(_, known)| known == name).map_or(0, |(index, _)| *index));
    Ok(builder.finish()?)
}
