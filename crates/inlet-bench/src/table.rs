//! Tables for people, on standard output.

use std::io::{self, Write};

/// Prints a title, a head and rows; the first column to the left, all others to the right.
pub(crate) fn print(title: &str, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    writeln!(out, "\n{title}")?;
    for row in [&head].into_iter().chain(rows) {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match at {
                0 => write!(out, "  {cell:width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    out.flush()
}

/// Prints a text.
pub(crate) fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Says what is going on, on standard error.
pub(crate) fn progress(text: impl std::fmt::Display) {
    complain(format_args!("... {text}"));
}

/// Says what is wrong, on standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    // When nobody reads it, nothing is to be done.
    let _ = writeln!(io::stderr(), "{text}");
}
