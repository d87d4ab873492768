//! What people and programs read. Text or JSON to a writer; nothing is asked or decided here.

mod adoption;
mod area;
mod check;
mod described;
mod diagnostics;
mod explain;
mod import;
mod listeners;
mod palette;
mod plan;
mod printable;
mod rules;
mod socket;
mod status;
mod table;
mod traffic;

use std::io::Write;

use serde::Serialize;

pub(crate) use adoption::{adoption, unregistered};
pub(crate) use check::checkup;
pub(crate) use described::findings;
pub(crate) use diagnostics::{diagnostics, errors};
pub(crate) use explain::{Question, explanation};
pub(crate) use import::imported;
pub(crate) use listeners::listeners;
pub(crate) use palette::Palette;
pub(crate) use plan::{applied, committed, confirmed, proposal};
pub(crate) use printable::printable;
pub(crate) use rules::rules;
pub(crate) use status::{Overview, Place, down, services, status, up};

use crate::failure::Failure;

/// Where output goes and in which form.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) palette: Palette,
    pub(crate) json: bool,
}

impl Screen<'_> {
    /// One JSON document.
    fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        Ok(self.out.write_all(b"\n")?)
    }
}

/// A count with its noun.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
