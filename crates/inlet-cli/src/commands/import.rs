//! The command that translates the rules of other tools.

use std::path::Path;

use inlet_import::{ImportError, Imported, tproxy, tubular};

use super::source;
use crate::args::Import;
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn import(args: &Import, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let imported = match args {
        Import::Tubular { file } => read(file, tubular)?,
        Import::Tproxy { file, ipset } => {
            let sets = ipset.as_deref().map(source).transpose()?;
            let sets = sets.map(|sets| sets.text).unwrap_or_default();
            read(file, |text| tproxy(text, &sets))?
        }
    };
    render::imported(screen, &imported)?;
    if imported.left.is_empty() { Ok(()) } else { Err(Failure::Untranslated(imported.left)) }
}

fn read(file: &Path, translate: impl FnOnce(&str) -> Result<Imported, ImportError>) -> Result<Imported, Failure> {
    let source = source(file)?;
    translate(&source.text).map_err(|error| Failure::Import(source.name, error))
}
