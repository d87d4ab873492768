//! Small tables: aligned columns without borders, in the width of the terminal. A long list of rules in a pipe has a
//! writer of its own.

use anstyle::Style;

use super::width::{fit, wrapped};
use super::{Screen, palette::paint};
use crate::failure::Failure;

/// Between two columns.
const GAP: usize = 2;

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

    /// Writes it, every line after `indent` blanks, cells that do not fit in several lines. The last column is not
    /// padded.
    pub(crate) fn write(&self, screen: &mut Screen<'_>, indent: usize) -> Result<(), Failure> {
        self.write_within(screen, indent, screen.width)
    }

    /// The same for a width that is not the screen's.
    pub(super) fn write_within(
        &self,
        screen: &mut Screen<'_>,
        indent: usize,
        width: Option<usize>,
    ) -> Result<(), Failure> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let natural = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..columns).map(natural).collect();
        if let Some(width) = width {
            fit(&mut widths, width.saturating_sub(indent + GAP * columns.saturating_sub(1)));
        }
        for (number, row) in self.rows.iter().enumerate() {
            let style = if number == 0 && self.heading { screen.palette.heading } else { Style::new() };
            for line in lines(row, &widths) {
                let line = " ".repeat(indent) + &line;
                writeln!(screen.out, "{}", paint(style, line.trim_end()))?;
            }
        }
        Ok(())
    }
}

/// The lines of a row.
fn lines(row: &[String], widths: &[usize]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |number: usize| {
        let part = |(cell, width): (&Vec<String>, &usize)| {
            let text = cell.get(number).map_or("", String::as_str);
            format!("{text:width$}{}", " ".repeat(GAP))
        };
        cells.iter().zip(widths).map(part).collect()
    };
    (0..count).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Palette;
    use super::*;

    fn written(table: &Table, indent: usize, width: Option<usize>) -> String {
        let mut out = Vec::new();
        let mut screen = Screen { out: &mut out, palette: Palette::default(), json: false, width };
        table.write(&mut screen, indent).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut table = Table::headed(&["NAME", "N"]);
        table.row(["a long name".to_owned(), "1".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        assert_eq!(written(&table, 2, None), "  NAME         N\n  a long name  1\n  é\n");
    }

    #[test]
    fn cells_that_do_not_fit_go_on_below() {
        let mut table = Table::headed(&["NAME", "N"]);
        table.row(["one two three".to_owned(), "1".to_owned()]);
        assert_eq!(written(&table, 0, Some(10)), "NAME     N\none two  1\nthree\n");
    }
}
