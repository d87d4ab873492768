//! What the targets share: a host that has nothing but what the input says, and a ruleset that uses all there is.

use std::path::{Path, PathBuf};

use inlet_core::config::{Host, NoInterface, Source, parse};
use inlet_core::{InterfaceName, Ruleset};
use inlet_import::Imported;

/// So many rules one input may stand for: more take their time, and are no other.
const RULES: usize = 20_000;

/// A host with every interface, and one file of prefixes.
pub struct Bare<'a>(pub &'a str);

impl Host for Bare<'_> {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        match path.file_name().is_some_and(|name| name == "prefixes.txt") {
            true => Ok(path.to_owned()),
            false => Err("there is no such file".to_owned()),
        }
    }

    fn read(&mut self, _: &Path) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, NoInterface> {
        Ok(name.as_str().len() as u32)
    }
}

/// A file of this name is read, and its ruleset survives being written and read again.
pub fn ruleset_file(name: &str, text: &str) {
    let Some(ruleset) = read(name, text) else { return };
    if ruleset.len() > RULES {
        return;
    }
    let (mut json, mut toml) = (Vec::new(), Vec::new());
    let routes = inlet_core::config::Routes::Leave;
    inlet_core::config::write(&ruleset, routes, &mut json).expect("written");
    inlet_core::config::write_toml(&ruleset, routes, &mut toml).expect("written");
    for (name, written) in [("export.json", json), ("export.toml", toml)] {
        let again = read(name, &String::from_utf8(written).expect("text")).expect("an export is read");
        assert!(inlet_core::Plan::between(&ruleset, &again).is_empty(), "an export is the same ruleset");
    }
}

fn read(name: &str, text: &str) -> Option<Ruleset> {
    let source = Source::file(Path::new(name), text.to_owned());
    parse(source, &Ruleset::empty(), &mut Bare("192.0.2.0/24\n2001:db8::/32\n")).ok().map(|parsed| parsed.ruleset)
}

/// What an import makes is a ruleset file, in both forms.
pub fn imported(imported: &Imported) {
    let mut toml = Vec::new();
    imported.write_toml(&mut toml).expect("written");
    let toml = String::from_utf8(toml).expect("text");
    for (name, text) in [("import.toml", toml), ("import.json", imported.to_json().to_string())] {
        let source = Source::file(Path::new(name), text);
        if let Err(found) = parse(source, &Ruleset::empty(), &mut Bare("")) {
            panic!("{name}: {found}");
        }
    }
}

/// A ruleset with everything that a ruleset can have.
pub fn everything() -> Ruleset {
    read("all.json", include_str!("../corpus/ruleset_json/all.json")).expect("a ruleset")
}

/// Words with the changes that an input says: each is where, how, and a word.
pub fn changed(mut words: Vec<u32>, bytes: &[u8]) -> Vec<u32> {
    for change in bytes.as_chunks::<8>().0 {
        let [a, b, c, how, value @ ..] = *change;
        let (at, value) = (u32::from_le_bytes([a, b, c, 0]) as usize % words.len(), u32::from_le_bytes(value));
        match how % 4 {
            0 => words[at] = value,
            1 => words[at] ^= value,
            2 => words[at] = words[at].wrapping_add(value),
            _ => words.truncate(at.max(1)),
        }
    }
    words
}
