//! Named sets and maps of nftables.

use inlet_core::Prefix;
use serde_json::Value;

use super::Name;
use super::values::{Piece, address};
use crate::Left;
use crate::encode::prefixes;
use crate::firewall::Addresses;

/// A named set or map: its elements as they stand there.
#[derive(Debug)]
pub(super) struct NamedSet {
    pub(super) elements: Vec<Value>,
    /// Whether elements come and go.
    changes: bool,
    is_map: bool,
}

impl NamedSet {
    pub(super) fn read(set: &Value) -> Self {
        let flags = set["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let elements = set["elem"].as_array().cloned().unwrap_or_default();
        let ends = |element: &Value| element["elem"].get("timeout").is_some();
        let changes = flags.iter().any(|flag| flag == "dynamic" || flag == "timeout") || elements.iter().any(ends);
        Self { elements, changes, is_map: set.get("map").is_some() }
    }

    /// What is to be told when a rule uses it.
    pub(super) fn told(&self, (family, table, name): &Name) -> Option<Left> {
        let why = "its elements come and go; the import takes those that are there now as permanent".to_owned();
        let (place, text) = (format!("set {family} {table} {name}"), String::new());
        self.changes.then_some(Left { place, text, why, todo: false })
    }

    /// All of it, when it is addresses of one family.
    pub(super) fn prefixes(&self) -> Option<Vec<Prefix>> {
        if self.is_map || self.elements.is_empty() {
            return None;
        }
        let range = |element: &Value| address(&Piece::of(element));
        let ranges: Vec<_> = self.elements.iter().map(range).collect::<Option<_>>()?;
        let family = ranges.first()?.family;
        let one_family = ranges.iter().all(|range| range.family == family);
        one_family.then(|| prefixes(family, Addresses::new(ranges).of(family)))
    }
}
