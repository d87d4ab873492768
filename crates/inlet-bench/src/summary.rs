//! The table of the README: five rows of what matters most, in Markdown.

use std::io;

use crate::goals::MANY;
use crate::report::Report;
use crate::{commit, lookup, table, traffic};

/// Prints the table when everything in it was measured.
pub(crate) fn print(report: &Report) -> io::Result<()> {
    match rows(report) {
        Some(rows) => table::say(&rows.join("\n")),
        None => Ok(()),
    }
}

fn rows(report: &Report) -> Option<Vec<String>> {
    let lookups = &report.lookup.as_ref()?.rows;
    let (commits, ways) = (report.commit.as_ref()?, report.traffic.as_ref()?);
    let one = lookups.iter().find(|row| row.name == "mix 1")?;
    let many =
        lookups.iter().filter(|row| row.name.starts_with("mix ") && row.rules <= MANY).max_by_key(|row| row.rules)?;
    let commit = commits.iter().filter(|row| row.rules <= MANY).max_by_key(|row| row.rules)?;
    let inlet = ways.iter().rfind(|row| row.way.starts_with("inlet"))?;
    let machine = &report.machine;
    let head = format!(
        "\nFor the README:\n| {}, {} cores, Linux {}, {}; `make bench` | Inlet | usual design |\n| --- | --- | --- |",
        machine.processor, machine.processors, machine.kernel, machine.date
    );
    Some(vec![head, hot(one), hot_and_cold(many), apply(commit), udp(inlet, ways), tcp(inlet, ways)])
}

fn hot(row: &lookup::Row) -> String {
    let lookup::Cost { inlet, lpm, give, .. } = row.hot;
    let what = format!("look-up and giving to a socket, 1 rule, hot (giving alone: {give:.0} ns)");
    format!("| {what} | {inlet:.0} ns | {lpm:.0} ns (LPM trie) |")
}

fn hot_and_cold(row: &lookup::Row) -> String {
    let (hot, cold) = (row.hot, row.cold);
    let inlet = format!("{:.0}; {:.0} ns", hot.inlet, cold.inlet);
    format!("| the same with {} rules, hot; cold | {inlet} | {:.0}; {:.0} ns |", row.rules, hot.lpm, cold.lpm)
}

fn apply(row: &commit::Row) -> String {
    let measured = format!("{:.2} s; {:.0} bytes", row.apply.median / 1e3, row.kernel_per_rule);
    format!("| {} rules from a file, whole process; memory a rule | {measured} | |", row.rules)
}

fn udp(inlet: &traffic::Row, ways: &[traffic::Row]) -> String {
    let what = format!("datagrams through a veth pair, {}, to a direct bind", inlet.way);
    against_tproxy(&what, inlet, ways, |row| row.udp.to_direct.median)
}

fn tcp(inlet: &traffic::Row, ways: &[traffic::Row]) -> String {
    against_tproxy("connections likewise", inlet, ways, |row| row.tcp.to_direct.median)
}

fn against_tproxy(what: &str, inlet: &traffic::Row, ways: &[traffic::Row], of: fn(&traffic::Row) -> f64) -> String {
    let best = ways.iter().filter(|row| row.way.starts_with("tproxy")).map(of).fold(f64::NAN, f64::max);
    format!("| {what} | {:.2} | {best:.2} (TPROXY) |", of(inlet))
}
