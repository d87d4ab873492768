//! Named sets of prefixes, inline or from a text file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Prefix, PrefixError};

/// Gives the text of a file that a ruleset names, or says why it cannot be read.
pub type ReadFile<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// The sets of a ruleset by name. Within a set a prefix counts once, however often it is listed.
#[derive(Default)]
pub(super) struct Sets(BTreeMap<String, Vec<Prefix>>);

/// A prefix, or the name of a set with an `@` before it.
pub(super) enum PrefixOrSet {
    Prefix(Prefix),
    Set(String),
}

impl FromStr for PrefixOrSet {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text.strip_prefix('@') {
            Some(name) => Ok(Self::Set(name.to_owned())),
            None => text.parse().map(Self::Prefix),
        }
    }
}

/// A rule names a set that is not there.
#[derive(Debug, thiserror::Error)]
#[error("no set {name:?}; list it under \"sets\", which must stand before \"rules\"")]
pub(super) struct NoSet {
    name: String,
}

impl Sets {
    /// The prefixes meant.
    pub(super) fn prefixes<'a>(&'a self, text: &'a PrefixOrSet) -> Result<&'a [Prefix], NoSet> {
        match text {
            PrefixOrSet::Prefix(prefix) => Ok(std::slice::from_ref(prefix)),
            PrefixOrSet::Set(name) => self.0.get(name).map(Vec::as_slice).ok_or_else(|| NoSet { name: name.clone() }),
        }
    }
}

/// Reads the text form: one prefix a line, `#` begins a comment.
fn parse_lines(file: &str, text: &str) -> Result<Vec<Prefix>, String> {
    let mut prefixes = Vec::with_capacity(text.len() / 16);
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            prefixes.push(line.parse().map_err(|error: PrefixError| format!("{file}, line {number}: {error}"))?);
        }
    }
    Ok(prefixes)
}

pub(super) struct SetsSeed<'a, 'f> {
    pub(super) sets: &'a mut Sets,
    pub(super) files: &'a mut ReadFile<'f>,
}

impl<'de> DeserializeSeed<'de> for SetsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SetsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of sets by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let mut prefixes = match map.next_value::<SetText<'de>>()? {
                SetText::Inline(prefixes) => prefixes,
                SetText::File(path) => {
                    let text = (self.files)(&path).map_err(de::Error::custom)?;
                    parse_lines(&path, &text).map_err(de::Error::custom)?
                }
            };
            prefixes.sort_unstable();
            prefixes.dedup();
            if self.sets.0.insert(name.clone(), prefixes).is_some() {
                return Err(de::Error::custom(format_args!("set {name:?} is listed twice")));
            }
        }
        Ok(())
    }
}

/// A set as it is written: a list of prefixes, or `{"file": PATH}`.
enum SetText<'de> {
    Inline(Vec<Prefix>),
    File(Cow<'de, str>),
}

impl<'de> Deserialize<'de> for SetText<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct SetVisitor;
        impl<'de> Visitor<'de> for SetVisitor {
            type Value = SetText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of prefixes, or {\"file\": PATH}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SetText<'de>, A::Error> {
                let mut prefixes = Vec::new();
                while let Some(text) = seq.next_element::<Cow<'de, str>>()? {
                    prefixes.push(text.parse().map_err(de::Error::custom)?);
                }
                Ok(SetText::Inline(prefixes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SetText<'de>, A::Error> {
                let Some("file") = map.next_key::<Cow<'de, str>>()?.as_deref() else {
                    return Err(de::Error::custom("a set is a list of prefixes, or {\"file\": PATH}"));
                };
                let path = map.next_value()?;
                match map.next_key::<Cow<'de, str>>()? {
                    None => Ok(SetText::File(path)),
                    Some(other) => Err(de::Error::unknown_field(&other, &["file"])),
                }
            }
        }
        json.deserialize_any(SetVisitor)
    }
}
