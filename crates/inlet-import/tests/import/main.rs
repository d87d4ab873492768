//! What is imported does with every packet what the rules did that it comes from.
#![allow(clippy::unwrap_used)]

mod cases;
mod chains;
mod garbage;
mod marks;
mod order;
mod texts;

use std::path::{Path, PathBuf};

use inlet_core::config::{self, Host, NoInterface, Source};
use inlet_core::{InterfaceName, Ruleset};
use inlet_import::Imported;

/// A host with the interfaces if1, if2 and so on.
struct Bare;

impl Host for Bare {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        Err(format!("no {}", path.display()))
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        Err(format!("no {}", path.display()))
    }

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, NoInterface> {
        Ok(name.as_str().strip_prefix("if").and_then(|number| number.parse().ok()).unwrap_or(9))
    }
}

pub(crate) fn toml(imported: &Imported) -> String {
    let mut text = Vec::new();
    imported.write_toml(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The ruleset that both forms of the file give.
pub(crate) fn ruleset(imported: &Imported) -> Ruleset {
    let read = |text: String| {
        let parsed = config::parse(Source::new("imported", text.clone()), &Ruleset::empty(), &mut Bare);
        parsed.unwrap_or_else(|found| panic!("{text}\n{found}")).ruleset
    };
    let ruleset = read(toml(imported));
    let from_json = read(imported.to_json().to_string());
    let lines = |ruleset: &Ruleset| ruleset.rules().map(|rule| ruleset.named(&rule).to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&from_json), lines(&ruleset));
    ruleset
}
