//! Ruleset files: what they say, and everything that can be wrong with them, in both notations.
#![allow(clippy::unwrap_used)]

mod agree;
mod files;
mod golden;
mod values;

use std::path::{Path, PathBuf};

use inlet_core::config::{self, Diagnostics, Host, NoInterface, Parsed, Source};
use inlet_core::{InterfaceName, Ruleset};

/// Files by path. One whose text begins with `->` is a symbolic link to the other path there.
pub(crate) struct Files(pub(crate) Vec<(&'static str, &'static str)>);

impl Files {
    fn get(&self, path: &Path) -> Result<&'static str, String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| *text).ok_or_else(|| format!("cannot read {}", path.display()))
    }
}

impl Host for Files {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        let link = self.get(path)?.strip_prefix("->");
        Ok(link.map_or_else(|| path.to_owned(), PathBuf::from))
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        let real = self.real_path(path)?;
        self.get(&real).map(str::to_owned)
    }

    fn files_in(&mut self, directory: &Path) -> Result<Option<Vec<String>>, String> {
        let names = self.0.iter().filter_map(|(name, _)| Path::new(name).strip_prefix(directory).ok()?.to_str());
        let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(if names.is_empty() { None } else { Some(names) })
    }

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, NoInterface> {
        let number = name.as_str().strip_prefix("if").and_then(|number| number.parse().ok());
        let message = || format!("no interface {:?} here", name.as_str());
        number.ok_or_else(|| NoInterface { message: message(), remedy: Some("see: ip link".to_owned()) })
    }
}

pub(crate) fn files() -> Files {
    Files(vec![
        ("feed.txt", "# a feed\n192.0.2.0/24\n\n198.51.100.7 # a host\n192.0.2.0/24\n2001:db8::/32\n"),
        ("bad.txt", "192.0.2.0/24\n192.0.2.1/24\n"),
    ])
}

pub(crate) fn parse_with(files: &mut Files, name: &str, text: &str) -> Result<Parsed, Diagnostics> {
    config::parse(Source::file(name, text.to_owned()), &Ruleset::empty(), files)
}

pub(crate) fn parse(name: &str, text: &str) -> Result<Parsed, String> {
    parse_with(&mut files(), name, text).map_err(|found| found.to_string())
}

pub(crate) fn parse_json(text: &str) -> Result<Parsed, String> {
    parse("inlet.json", text)
}

pub(crate) fn lines(ruleset: &Ruleset) -> Vec<String> {
    ruleset.rules().map(|rule| ruleset.named(&rule).to_string()).collect()
}
