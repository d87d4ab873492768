//! Ruleset files: rules, services and sets as an operator writes them, in TOML or in JSON of the same shape.
//!
//! [`parse`] reads a file and the files that it includes. JSON without a mistake, which may have a million rules, goes
//! straight into a builder. Everything else goes the slow way: TOML, files that include others, and files with
//! mistakes. The slow way knows where each value stands and reports all mistakes at once.
//!
//! [`write()`] and [`write_toml`] write a ruleset, one rule a line, so that two exports can be compared line by line.

mod diagnostic;
mod expand;
mod fast;
mod keys;
mod loader;
mod sets;
mod skipped;
mod slow;
mod write;

use std::path::{Path, PathBuf};

pub use self::diagnostic::{Diagnostic, Diagnostics, FileId, Place, Related, Source};
pub use self::keys::UnknownChoice;
pub use self::skipped::Skipped;
pub use self::slow::nearest;
pub use self::write::{rule_json, write, write_toml};
use crate::rule::{InterfaceName, Services};
use crate::ruleset::Ruleset;
use loader::Loader;

/// What the reader asks the host for.
pub trait Host {
    /// The path without symbolic links, by which a file is recognised.
    ///
    /// # Errors
    /// Why there is no such file, in words.
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String>;

    /// The text of a file that another one names.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&mut self, path: &Path) -> Result<String, String>;

    /// The names of the ruleset files in a directory that another file includes; `None` when it is no directory.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn files_in(&mut self, _directory: &Path) -> Result<Option<Vec<String>>, String> {
        Ok(None)
    }

    /// The kernel's index of an interface that a rule names. 0: its rules match nothing for now.
    ///
    /// # Errors
    /// Why it cannot be named.
    fn interface(&mut self, name: &InterfaceName) -> Result<u32, NoInterface>;

    /// The services whose numbers a new one must not get, beside those of the previous ruleset.
    fn reserved(&self) -> Option<&Services> {
        None
    }
}

/// Why an interface cannot be named, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoInterface {
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub remedy: Option<String>,
}

/// What a ruleset file says.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The rules and services.
    pub ruleset: Ruleset,
    /// Who makes the local routes.
    pub routes: Routes,
    /// What the lists of lenient sets were read without, file by file.
    pub skipped: Vec<Skipped>,
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

/// Reads a ruleset. Services that `previous` has keep their numbers.
///
/// # Errors
/// All mistakes in it and in the files that it includes.
pub fn parse(file: Source, previous: &Ruleset, host: &mut dyn Host) -> Result<Parsed, Diagnostics> {
    let is_json = is_json(&file);
    let mut loader = Loader::new(file, host);
    match is_json.then(|| fast::parse(&mut loader, previous)).flatten() {
        Some(parsed) => Ok(parsed),
        None => slow::parse(loader, previous),
    }
}

/// Whether a file is JSON rather than TOML. The extension decides. Without one of the two, the first character does: a
/// brace is never first in TOML, and always in JSON of this form.
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

    /// The fast way, for texts without mistakes.
    pub fn fast(file: Source, previous: &Ruleset, host: &mut dyn Host) -> Option<Parsed> {
        super::fast::parse(&mut Loader::new(file, host), previous)
    }

    /// The fast way with two threads, for long texts whose last key is `rules`.
    pub fn halves(file: Source, previous: &Ruleset, host: &mut dyn Host) -> Option<Parsed> {
        super::fast::parse_halves(&mut Loader::new(file, host), previous)
    }

    /// The slow way, which knows where each value stands and has the last word.
    ///
    /// # Errors
    /// All mistakes.
    pub fn slow(file: Source, previous: &Ruleset, host: &mut dyn Host) -> Result<Parsed, Diagnostics> {
        super::slow::parse(Loader::new(file, host), previous)
    }
}
