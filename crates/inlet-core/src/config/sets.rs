//! Named sets of prefixes, inline or from a text file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use crate::rule::{Prefix, PrefixError};

/// The sets of a ruleset by name. A set has each prefix once.
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

impl Sets {
    /// Adds a set; false when the name is taken.
    pub(super) fn add(&mut self, name: &str, mut prefixes: Vec<Prefix>) -> bool {
        prefixes.sort_unstable();
        prefixes.dedup();
        self.0.insert(name.to_owned(), prefixes).is_none()
    }

    /// The prefix, or the prefixes of the set; `None` when there is no such set.
    pub(super) fn prefixes<'a>(&'a self, text: &'a PrefixOrSet) -> Option<&'a [Prefix]> {
        match text {
            PrefixOrSet::Prefix(prefix) => Some(std::slice::from_ref(prefix)),
            PrefixOrSet::Set(name) => self.0.get(name).map(Vec::as_slice),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }
}

/// Reads a text with one prefix a line; `#` begins a comment. Gives the bytes of each entry with its prefix or the
/// error.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (Range<usize>, Result<Prefix, PrefixError>)> {
    text.lines().filter_map(move |line| {
        let prefix = line.split('#').next().unwrap_or_default().trim();
        let start = prefix.as_ptr() as usize - text.as_ptr() as usize;
        (!prefix.is_empty()).then(|| (start..start + prefix.len(), prefix.parse()))
    })
}
