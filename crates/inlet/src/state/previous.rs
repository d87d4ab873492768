//! The ruleset before the one in force, which is kept to go back to.

use inlet_core::image::Previous;
use inlet_core::{Plan, Ruleset};
use libbpf_rs::MapHandle;

use super::frozen::create_frozen;
use super::layout::GenerationFiles;
use super::map::{Access, open_map};
use super::pins::is_there;
use crate::error::Result;

/// Keeps what brings `old` back when `new` is in force, in a frozen map.
pub(crate) fn keep(old: &Ruleset, new: &Ruleset, plan: &Plan) -> Result<MapHandle> {
    let words = Previous::between(old, new, plan)?.to_words();
    create_frozen("inlet_previous", words.len(), |filled| filled.copy_from_slice(&words))
}

/// Opens what is kept beside a generation; `None` beside the first one.
pub(crate) fn open(files: &GenerationFiles) -> Result<Option<MapHandle>> {
    let path = files.previous();
    is_there(&path)?.then(|| open_map(&path, Access::Write)).transpose()
}
