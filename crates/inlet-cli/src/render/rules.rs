//! A list of rules. In a pipe each has its line. It may be a million of them, so each is formatted into one line that
//! is used again, once to measure and once to write. On a terminal those that tie share lines.

use std::fmt::Write as _;

use inlet::rules::config::rule_json;
use inlet::rules::{IfaceId, Mark, Match, Rule, Ruleset, Verdict};

use super::join::by_key;
use super::table::Table;
use super::{Screen, counted, palette::paint};
use crate::failure::Failure;

const COLUMNS: usize = 7;
const HEADING: [&str; COLUMNS] = ["PROTOCOL", "LOCAL", "PORTS", "FROM", "IFACE", "MARK", "VERDICT"];
/// Only there when a rule of the list has one.
const MARK: usize = 5;
const BLANKS: &str = "                                                                                ";

pub(crate) fn rules(screen: &mut Screen<'_>, ruleset: &Ruleset, rules: &[Rule]) -> Result<(), Failure> {
    match (screen.json, rules, screen.width) {
        (true, ..) => json(screen, ruleset, rules),
        (false, [], _) if ruleset.is_empty() => Ok(writeln!(screen.out, "no rules")?),
        (false, [], _) => Ok(writeln!(screen.out, "no rule matches ({} in all)", counted(ruleset.len(), "rule"))?),
        (false, rules, None) => table(screen, ruleset, rules),
        (false, rules, Some(_)) => joined(screen, ruleset, rules),
    }
}

/// Rules that are equally specific cannot match one packet, so their order does not matter, and those that differ in
/// one thing only are one row. The long column comes last, where it has the most room.
fn joined(screen: &mut Screen<'_>, ruleset: &Ruleset, rules: &[Rule]) -> Result<(), Failure> {
    let rank = |rule: &Rule| {
        let Match { local, ports, source, iface, mark, .. } = rule.matching;
        (local.len(), ports.width(), source.map(|source| source.len()), iface.is_some(), mark.map(Mark::bits))
    };
    let mut table = Table::headed(&["PROTOCOL", "PORTS", "VERDICT", "LOCAL"]);
    for tied in rules.chunk_by(|one, other| rank(one) == rank(other)) {
        rows(ruleset, tied).into_iter().for_each(|row| table.row(row));
    }
    table.write(screen, 0)
}

/// All of some rules but their protocols: ports, prefixes, sources, interface and mark, verdict.
type Rest = (String, String, String, (Option<IfaceId>, Option<Mark>), Verdict);

/// The rows of rules that are equally specific: joined by their ports, then their prefixes, their sources, their
/// protocols.
fn rows(ruleset: &Ruleset, rules: &[Rule]) -> Vec<[String; 4]> {
    let by_ports = by_key(rules.iter().map(|rule| {
        let Match { protocol, local, ports, source, iface, mark } = rule.matching;
        ((protocol, local, source, (iface, mark), rule.verdict), ports.to_string())
    }));
    let by_local = by_key(by_ports.into_iter().map(|((protocol, local, source, on, verdict), ports)| {
        ((protocol, ports.join(","), source, on, verdict), local.to_string())
    }));
    let by_source = by_key(by_local.into_iter().map(|((protocol, ports, source, on, verdict), locals)| {
        ((protocol, ports, locals.join(", "), on, verdict), source.map(|source| source.to_string()))
    }));
    let by_protocol = by_key(by_source.into_iter().map(|((protocol, ports, locals, on, verdict), sources)| {
        let sources: Vec<String> = sources.into_iter().flatten().collect();
        ((ports, locals, sources.join(", "), on, verdict), protocol.to_string())
    }));
    let row = |((ports, mut locals, sources, (iface, mark), verdict), protocols): (Rest, Vec<_>)| {
        if !sources.is_empty() {
            locals += &format!(" from {sources}");
        }
        if let Some(id) = iface {
            locals += &format!(" on {}", ruleset.interface(id).name);
        }
        if let Some(mark) = mark {
            locals += &format!(" mark {mark}");
        }
        [protocols.join(","), ports, verdict_text(ruleset, verdict), locals]
    };
    by_protocol.into_iter().map(row).collect()
}

fn verdict_text(ruleset: &Ruleset, verdict: Verdict) -> String {
    match ruleset.service_name(verdict) {
        Some(name) => format!("-> {name}"),
        None => verdict.as_str().to_owned(),
    }
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
    if rules.iter().all(|rule| rule.matching.mark.is_none()) {
        widths[MARK] = 0;
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
        let _ = match matching.mark {
            Some(mark) => write!(text, "{mark}"),
            None => text.write_str("any"),
        };
        ends[MARK] = text.len();
        match rule.verdict {
            Verdict::Service(_) => {
                text.push_str("-> ");
                text.push_str(ruleset.service_name(rule.verdict).unwrap_or("?"));
            }
            Verdict::Pass => text.push_str("pass"),
            Verdict::Refuse => text.push_str("refuse"),
        }
        ends[6] = text.len();
    }

    /// The cells as a line, each but the last padded. A column without width is left out.
    fn align(&self, widths: &[usize; COLUMNS], line: &mut String) {
        line.clear();
        for (column, width) in widths.iter().enumerate().filter(|(_, width)| **width > 0) {
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
