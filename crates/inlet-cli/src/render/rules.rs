//! A list of rules. It may have a million of them, so each is formatted into one line that is used again, once to
//! measure and once to write.

use std::fmt::Write as _;

use inlet::core::config::rule_json;
use inlet::core::{Rule, Ruleset, Verdict};

use super::{Screen, palette::paint};
use crate::failure::Failure;

const COLUMNS: usize = 6;
const HEADING: [&str; COLUMNS] = ["PROTOCOL", "LOCAL", "PORTS", "FROM", "IFACE", "VERDICT"];
const BLANKS: &str = "                                                                                ";

pub(crate) fn rules(screen: &mut Screen<'_>, ruleset: &Ruleset, rules: &[Rule]) -> Result<(), Failure> {
    if screen.json { json(screen, ruleset, rules) } else { table(screen, ruleset, rules) }
}

/// An array with one rule a line.
fn json(screen: &mut Screen<'_>, ruleset: &Ruleset, rules: &[Rule]) -> Result<(), Failure> {
    let mut separator: &[u8] = b"[";
    for rule in rules {
        screen.out.write_all(separator)?;
        serde_json::to_writer(&mut screen.out, &rule_json(ruleset, rule))?;
        separator = b",\n ";
    }
    Ok(screen.out.write_all(if rules.is_empty() { b"[]\n" } else { b"]\n" })?)
}

fn table(screen: &mut Screen<'_>, ruleset: &Ruleset, rules: &[Rule]) -> Result<(), Failure> {
    let mut cells = Cells::default();
    let mut widths = HEADING.map(str::len);
    for rule in rules {
        cells.fill(ruleset, rule);
        for (column, width) in widths.iter_mut().enumerate() {
            *width = (*width).max(cells.get(column).len());
        }
    }
    let mut line = String::new();
    cells.fill_with(&HEADING);
    cells.align(&widths, &mut line);
    writeln!(screen.out, "{}", paint(screen.palette.heading, line.trim_end()))?;
    for rule in rules {
        cells.fill(ruleset, rule);
        cells.align(&widths, &mut line);
        screen.out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The cells of one rule, in one text.
#[derive(Default)]
struct Cells {
    text: String,
    ends: [usize; COLUMNS],
}

impl Cells {
    fn get(&self, column: usize) -> &str {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.text[start..self.ends[column]]
    }

    fn fill_with(&mut self, texts: &[&str; COLUMNS]) {
        self.text.clear();
        for (text, end) in texts.iter().zip(&mut self.ends) {
            self.text.push_str(text);
            *end = self.text.len();
        }
    }

    fn fill(&mut self, ruleset: &Ruleset, rule: &Rule) {
        let Self { text, ends } = self;
        let matching = &rule.matching;
        text.clear();
        text.push_str(matching.protocol.as_str());
        ends[0] = text.len();
        // Writing to a String does not fail.
        let _ = write!(text, "{}", matching.local);
        ends[1] = text.len();
        let _ = write!(text, "{}", matching.ports);
        ends[2] = text.len();
        let _ = match matching.source {
            Some(source) => write!(text, "{source}"),
            None => text.write_str("any"),
        };
        ends[3] = text.len();
        text.push_str(matching.iface.map_or("any", |id| ruleset.interface(id).name.as_str()));
        ends[4] = text.len();
        match rule.verdict {
            Verdict::Service(_) => {
                text.push_str("-> ");
                text.push_str(ruleset.service_name(rule.verdict).unwrap_or("?"));
            }
            Verdict::Pass => text.push_str("pass"),
            Verdict::Refuse => text.push_str("refuse"),
        }
        ends[5] = text.len();
    }

    /// The cells as a line, each but the last padded.
    fn align(&self, widths: &[usize; COLUMNS], line: &mut String) {
        line.clear();
        for (column, width) in widths.iter().enumerate() {
            let cell = self.get(column);
            line.push_str(cell);
            if column + 1 < COLUMNS {
                let blanks = (width - cell.len() + 2).min(BLANKS.len());
                line.push_str(&BLANKS[..blanks]);
            }
        }
        line.push('\n');
    }
}
