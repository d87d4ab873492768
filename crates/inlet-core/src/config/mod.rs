//! Ruleset files: rules, services and sets as an operator writes them, in TOML or in JSON of the same shape.
//!
//! [`parse`] reads a file and those that it includes. JSON without a mistake, which may have a million rules, goes
//! straight into a builder. TOML, files that include others and whatever is wrong somewhere go the slow way, which
//! knows
//! where each value stands and tells everything that is wrong at once.
//!
//! [`write()`] and [`write_toml`] write a ruleset, one rule a line, so that two exports can be compared line by line.

mod diagnostic;
mod expand;
mod fast;
mod keys;
mod loader;
mod sets;
mod slow;
mod write;

use std::path::{Path, PathBuf};

pub use self::diagnostic::{Diagnostic, Diagnostics, FileId, Place, Related, Source};
pub use self::keys::UnknownChoice;
pub use self::write::{rule_json, write, write_toml};
use crate::rule::InterfaceName;
use crate::ruleset::Ruleset;
use loader::Loader;

/// What a ruleset is read with.
pub trait Host {
    /// The path with nothing symbolic in it, by which a file is known again.
    ///
    /// # Errors
    /// Why there is no such file, in words.
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String>;

    /// The text of a file that another one names.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&mut self, path: &Path) -> Result<String, String>;

    /// The index of an interface that a rule names, 0 when its rules shall match nothing for now.
    ///
    /// # Errors
    /// Why it cannot be named, in words.
    fn interface(&mut self, name: &InterfaceName) -> Result<u32, String>;
}

/// A file, read: all that is to be in force.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Its rules and services.
    pub ruleset: Ruleset,
    /// What it says about routes.
    pub routes: Routes,
}

/// Who makes the prefixes of rules local to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routes {
    /// The operator.
    #[default]
    Leave,
    /// Inlet, as the file asks with `routes = "manage"`.
    Manage,
}

/// Reads a ruleset. Services that `old` has keep the numbers that they have there.
///
/// # Errors
/// Everything that is wrong with it and the files that it includes.
pub fn parse(file: Source, old: &Ruleset, host: &mut dyn Host) -> Result<Parsed, Diagnostics> {
    let is_json = is_json(&file);
    let mut loader = Loader::new(file, host);
    match is_json.then(|| fast::parse(&mut loader, old)).flatten() {
        Some(parsed) => Ok(parsed),
        None => slow::parse(loader, old),
    }
}

/// Whether a file is JSON rather than TOML: by its extension, and without one of the two by its first character, which
/// in TOML is never a brace and in JSON of this form always is.
fn is_json(file: &Source) -> bool {
    match file.path.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => file.text.trim_start().starts_with('{'),
    }
}

/// The ways of reading JSON, for tests that compare them.
#[cfg(feature = "arbitrary")]
pub mod ways {
    use super::{Diagnostics, Host, Loader, Parsed, Source};
    use crate::ruleset::Ruleset;

    /// The way that is only for texts without mistakes.
    pub fn fast(file: Source, old: &Ruleset, host: &mut dyn Host) -> Option<Parsed> {
        super::fast::parse(&mut Loader::new(file, host), old)
    }

    /// The former way with two threads, which is for long texts whose last key is `rules`.
    pub fn halves(file: Source, old: &Ruleset, host: &mut dyn Host) -> Option<Parsed> {
        super::fast::parse_halves(&mut Loader::new(file, host), old)
    }

    /// The way that knows all places and has the last word.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn slow(file: Source, old: &Ruleset, host: &mut dyn Host) -> Result<Parsed, Diagnostics> {
        super::slow::parse(Loader::new(file, host), old)
    }
}
