//! Where output goes: text in the width of the terminal, or JSON.

use std::io::Write;

use anstyle::Style;
use serde::Serialize;

use super::Palette;
use super::palette::paint;
use super::width::{IN_A_PIPE, wrapped};
use crate::failure::Failure;

/// Before the lines of a paragraph.
const MARGIN: usize = 2;

/// Where output goes and in which form.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) palette: Palette,
    pub(crate) json: bool,
    /// How many columns text may have; none for no limit.
    pub(crate) width: Option<usize>,
}

impl Screen<'_> {
    /// One JSON document.
    pub(super) fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// The width for what is laid out in a pipe too.
    pub(super) fn columns(&self) -> usize {
        self.width.unwrap_or(IN_A_PIPE)
    }

    /// A line of a paragraph, in several where it does not fit.
    pub(super) fn line(&mut self, style: Style, text: &str) -> Result<(), Failure> {
        let lines = match self.width {
            Some(width) => wrapped(text, width - MARGIN),
            None => vec![text.to_owned()],
        };
        for line in lines {
            writeln!(self.out, "{:MARGIN$}{}", "", paint(style, line))?;
        }
        Ok(())
    }

    /// The title of a paragraph: who it is about, and more of it.
    pub(super) fn title(&mut self, name: &str, more: &str) -> Result<(), Failure> {
        let text = format!("{name}  {more}");
        for (number, line) in wrapped(text.trim_end(), self.columns()).into_iter().enumerate() {
            match line.strip_prefix(name).filter(|_| number == 0) {
                Some(rest) => writeln!(self.out, "{}{rest}", paint(self.palette.heading, name))?,
                None => writeln!(self.out, "{line}")?,
            }
        }
        Ok(())
    }

    /// A line of a paragraph whose parts have styles of their own; in several where they do not fit.
    pub(super) fn parts(&mut self, name: &str, parts: &[(Style, String)]) -> Result<(), Failure> {
        write!(self.out, "{:MARGIN$}{name}", "")?;
        let mut used = MARGIN + name.len();
        for (number, (style, text)) in parts.iter().enumerate() {
            let comma = if number + 1 < parts.len() { "," } else { "" };
            let length = 1 + text.chars().count() + comma.len();
            if self.width.is_some_and(|width| used + length > width) {
                write!(self.out, "\n{:MARGIN$}{:MARGIN$}", "", "")?;
                used = 2 * MARGIN;
            }
            write!(self.out, " {}{comma}", paint(*style, text))?;
            used += length;
        }
        Ok(writeln!(self.out)?)
    }
}
