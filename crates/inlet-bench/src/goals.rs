//! What must hold, and whether it does. A part that was not measured has no lines here; the sizes named are those
//! measured.

use std::io;

use serde::Serialize;

use crate::{commit, lookup, table, traffic};

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) figure: String,
    pub(crate) measured: f64,
    pub(crate) at_most: Option<f64>,
    pub(crate) at_least: Option<f64>,
    pub(crate) met: bool,
}

impl Goal {
    /// False for what has no figure, such as cold lookups without cold keys.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured.is_finite()
    }
}

fn at_most(figure: impl Into<String>, measured: f64, limit: f64) -> Goal {
    Goal { figure: figure.into(), measured, at_most: Some(limit), at_least: None, met: measured <= limit }
}

fn at_least(figure: impl Into<String>, measured: f64, limit: f64) -> Goal {
    Goal { figure: figure.into(), measured, at_most: None, at_least: Some(limit), met: measured >= limit }
}

/// The size that goals are about.
pub(crate) const MANY: usize = 1_000_000;

/// A goal for both ways of measuring: whole programs, each of which gives the packet to a live socket, and the searches
/// alone, without what giving costs in any program.
fn against_lpm(what: &str, cost: &lookup::Cost, limit: f64) -> [Goal; 2] {
    let ways = [("whole program", cost.ratio), ("search only", cost.search_ratio)];
    ways.map(|(way, ratio)| at_most(format!("lookup, {what}, against LPM, {way}"), ratio, limit))
}

/// The goals for lookups.
pub(crate) fn lookups(report: &lookup::Report) -> Vec<Goal> {
    let rows = &report.rows;
    let mixes = || rows.iter().filter(|row| row.name.starts_with("mix ") && row.rules <= MANY);
    let mut goals = Vec::new();
    let one = mixes().find(|row| row.rules == 1);
    if let Some(one) = one {
        goals.extend(against_lpm("1 rule, hot", &one.hot, 0.45));
    }
    let Some(many) = mixes().filter(|row| row.rules > 1).max_by_key(|row| row.rules) else { return goals };
    goals.extend(against_lpm(&format!("{} rules, hot", many.rules), &many.hot, 0.10));
    let growth = |one: &lookup::Row| {
        at_most(format!("lookup, {} rules, hot, against 1 rule", many.rules), many.hot.inlet / one.hot.inlet, 1.5)
    };
    goals.extend(one.map(growth));
    goals.extend(against_lpm(&format!("{} rules, cold", many.rules), &many.cold, 0.10));
    goals.extend(against_lpm(&format!("{} rules, each key cold alone", many.rules), &many.alone, 0.10));
    let named = |start: &str| rows.iter().find(|row| row.name.starts_with(start));
    if let (Some(v4), Some(v6)) = (named("v4 only"), named("v6 only")) {
        goals.push(at_most(format!("IPv6 against IPv4, {} rules, hot", v6.rules), v6.hot.inlet / v4.hot.inlet, 1.6));
        goals.push(at_most(format!("IPv6 against IPv4, {} rules, cold", v6.rules), v6.cold.inlet / v4.cold.inlet, 1.6));
    }
    let distance = |a: usize, b: usize| (a as f64).ln() - (b as f64).ln();
    for row in rows.iter().filter(|row| !row.name.starts_with("mix ") && !row.name.contains(" only ")) {
        let near = |mix: &&lookup::Row| (distance(mix.rules, row.rules).abs() * 1e6) as u64;
        // A mix of another size says nothing; 32 rules are near to 100.
        if let Some(mix) = mixes().min_by_key(near).filter(|mix| distance(mix.rules, row.rules).abs() < 1.2) {
            let against = format!("{} against {}", row.name, mix.name);
            goals.push(at_most(format!("{against}, hot"), row.hot.inlet / mix.hot.inlet, 3.0));
            goals.push(at_most(format!("{against}, cold"), row.cold.inlet / mix.cold.inlet, 3.0));
        }
    }
    goals
}

/// The goals for commits.
pub(crate) fn commits(rows: &[commit::Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let Some(many) = rows.iter().filter(|row| row.rules <= MANY).max_by_key(|row| row.rules) else { return goals };
    let rules = many.rules;
    goals.push(at_most(format!("apply {rules} rules, ms"), many.apply.median, 1000.0));
    goals.push(at_most(format!("compile, fill, load, swap {rules} rules, ms"), many.steps.in_force(), 250.0));
    for (size, limit) in [(MANY, 200.0), (10_000, 12.0), (10, 6.0)] {
        if let Some(row) = rows.iter().find(|row| row.rules == size) {
            goals.push(at_most(format!("one more rule at {size}, ms"), row.one_more.median, limit));
        }
    }
    goals.push(at_most(format!("apply {rules} rules without change, ms"), many.unchanged.median, 600.0));
    goals.push(at_most(format!("list {rules} rules to a pipe, ms"), many.list.median, 1000.0));
    goals.push(at_most(format!("kernel memory a rule at {rules}, bytes"), many.kernel_per_rule, 64.0));
    goals.push(at_most(format!("process memory of apply of {rules}, MB"), many.apply_peak_mb, 300.0));
    goals
}

/// The goals for traffic.
pub(crate) fn traffic(rows: &[traffic::Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let Some(inlet) = rows.iter().rfind(|row| row.way.starts_with("inlet")) else { return goals };
    let tproxy: Vec<&traffic::Row> = rows.iter().filter(|row| row.way.starts_with("tproxy")).collect();
    type Kind = (&'static str, fn(&traffic::Row) -> f64);
    let kinds: [Kind; 3] = [
        ("TCP connects", |row| row.tcp.to_direct.median),
        ("UDP datagrams", |row| row.udp.to_direct.median),
        ("bulk TCP", |row| row.bulk.to_direct.median),
    ];
    for (name, of) in kinds {
        goals.push(at_least(format!("{name}, {} against direct bind", inlet.way), of(inlet), 0.97));
        let best = tproxy.iter().map(|row| of(row)).fold(f64::NAN, f64::max);
        goals.push(at_least(format!("{name}, {} against the best TPROXY", inlet.way), of(inlet) / best, 1.0));
    }
    // What Inlet adds to what the kernel's hook costs by itself.
    if let Some(hook) = rows.iter().find(|row| row.way.ends_with("empty hook")) {
        for (name, of) in &kinds[..2] {
            let figure = format!("{name}, {} against a direct bind with an empty hook", inlet.way);
            goals.push(at_least(figure, of(inlet) / of(hook), 0.97));
        }
    }
    goals.extend(marks(rows));
    let best = tproxy.iter().map(|row| row.cpu_per_gb.median).fold(f64::NAN, f64::min);
    let cpu = inlet.cpu_per_gb.median / best;
    goals.push(at_most(format!("processor time a GB, {} against the best TPROXY", inlet.way), cpu, 1.0));
    goals
}

/// What a rule that asks for a mark costs against the same one without.
fn marks(rows: &[traffic::Row]) -> Vec<Goal> {
    let named = |name: &str| rows.iter().find(|row| row.way == name);
    let (Some(marked), Some(bare)) = (named(traffic::setup::MARKED), named(traffic::setup::UNMARKED)) else {
        return Vec::new();
    };
    let ratio = |of: fn(&traffic::Row) -> f64| of(marked) / of(bare);
    vec![
        at_least("bulk TCP, with a mark against without", ratio(|row| row.bulk.to_direct.median), 0.98),
        at_least("TCP connects, with a mark against without", ratio(|row| row.tcp.to_direct.median), 0.97),
    ]
}

/// The goals for descriptions.
pub(crate) fn described(report: &traffic::described::Report) -> Vec<Goal> {
    let [nothing, empty] = report.ratios();
    vec![
        at_least("TCP connects, with descriptions attached against without", nothing, 0.99),
        // What Inlet adds to what the kernel takes for calling any program.
        at_least("the same against a program attached that does nothing", empty, 0.99),
        at_most("UDP bind to the first steered datagram, 99th percentile, ms", report.found_ms.last, 5.0),
    ]
}

/// The goals for answers over UDP that leave as asked.
pub(crate) fn answers(report: &traffic::answers::Report) -> Vec<Goal> {
    vec![
        at_least("UDP datagrams received, answers as asked against as bound", report.receiving.ratio, 0.93),
        at_least("UDP answers sent, likewise", report.sending.ratio, 0.93),
        // What Inlet adds to what the kernel takes for calling any programs there.
        at_least("the same against programs that do nothing", report.beside_empty[0].ratio, 0.93),
        at_least("UDP datagrams received by a service that needs none, likewise", report.other_service.ratio, 0.98),
        at_least("UDP datagrams sent by another program, likewise", report.other_sends.ratio, 0.98),
        at_least("the same against programs that do nothing", report.beside_empty[1].ratio, 0.98),
        at_least("bulk TCP of another program, likewise", report.other_bulk.ratio, 0.98),
    ]
}

/// Prints them.
pub(crate) fn print(goals: &[Goal]) -> io::Result<()> {
    let row = |goal: &Goal| {
        let limit = match (goal.at_most, goal.at_least) {
            (Some(limit), _) => format!("at most {limit}"),
            (None, Some(limit)) => format!("at least {limit}"),
            (None, None) => String::new(),
        };
        let met = if goal.met { "met" } else { "NOT MET" };
        vec![goal.figure.clone(), format!("{:.3}", goal.measured), limit, met.to_owned()]
    };
    table::print("What must hold", &["figure", "measured", "goal", ""], &goals.iter().map(row).collect::<Vec<_>>())
}
