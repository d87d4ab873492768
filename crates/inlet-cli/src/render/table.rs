//! Small tables: aligned columns without borders. A list of rules has a writer of its own.

use std::io::{self, Write};

use anstyle::Style;

use super::palette::paint;

/// Rows of cells, as many in each row.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    heading: bool,
}

impl Table {
    /// A table with a heading.
    pub(crate) fn headed(names: &[&str]) -> Self {
        Self { rows: vec![names.iter().map(|name| (*name).to_owned()).collect()], heading: true }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Writes it, every line after `indent` blanks. The last column is not padded.
    pub(crate) fn write(&self, out: &mut dyn Write, indent: usize, heading: Style) -> io::Result<()> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = " ".repeat(indent);
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            let style = if number == 0 && self.heading { heading } else { Style::new() };
            writeln!(out, "{}", paint(style, line.trim_end()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut table = Table::headed(&["NAME", "N"]);
        table.row(["a long name".to_owned(), "1".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out, 2, Style::new()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  NAME         N\n  a long name  1\n  é\n");
    }
}
