//! All packets: of both families and protocols, and what was found besides.

use std::collections::BTreeSet;

use inlet_core::{Family, Protocol};

use super::budget::Budget;
use super::marks::Marks;
use super::state::Verdict;
use super::table::{Asker, Fate, Table};
use crate::firewall::{Action, Firewall, RuleId, Step, Test};

/// So many steps of rules are done in all.
const STEPS: u64 = 60_000_000;

/// What was found besides.
#[derive(Debug, Default)]
pub(crate) struct Area {
    /// Rules that could not be followed, and why.
    pub(crate) doubts: BTreeSet<(RuleId, String)>,
    /// Rules that take packets to addresses that are not the host's.
    pub(crate) beyond: BTreeSet<RuleId>,
    /// The tables for packets to such addresses, when there are such rules.
    pub(crate) elsewhere: Vec<Table>,
    /// The names of interfaces by number, the first for all others.
    pub(crate) ifaces: Vec<String>,
    /// The marks that rules may ask for.
    pub(crate) marks: Marks,
    pub(crate) spent: bool,
}

/// Asks about all packets.
pub(crate) fn tables(firewall: &Firewall) -> (Vec<Table>, Area) {
    let budget = Budget::new(STEPS);
    let asked_marks = Marks::of(firewall);
    let mut area = Area { ifaces: ifaces(firewall), marks: asked_marks.clone(), ..Area::default() };
    let marks = marks(firewall);
    let mut tables = Vec::new();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let asked_marks = &asked_marks;
            let asker =
                Asker { firewall, budget: &budget, marks: &marks, asked_marks, family, protocol, to_host: true };
            let table = asker.table(&mut area);
            if firewall.tests.iter().any(|test| matches!(test, Test::LocalType(_))) {
                let mut other = Area { ifaces: area.ifaces.clone(), ..Area::default() };
                let elsewhere = Asker { to_host: false, ..asker }.table(&mut other);
                let beyond: BTreeSet<RuleId> = &steering(&elsewhere) - &steering(&table);
                if !beyond.is_empty() {
                    area.beyond.extend(beyond);
                    area.elsewhere.push(elsewhere);
                }
            }
            tables.push(table);
        }
    }
    area.spent = budget.is_spent();
    (tables, area)
}

/// The rules that give packets to sockets.
fn steering(table: &Table) -> BTreeSet<RuleId> {
    let to = |(fate, rules): (&Fate, &BTreeSet<RuleId>)| match fate {
        Fate::Sure(Verdict::To(_)) | Fate::Perhaps(Verdict::To(_)) => rules.clone(),
        _ => BTreeSet::new(),
    };
    table.labels.iter().flatten().flat_map(to).collect()
}

/// All names of interfaces that tests have, and those of interfaces that are there for names with `*`.
fn ifaces(firewall: &Firewall) -> Vec<String> {
    let of = |test: &Test| -> Vec<String> {
        match test {
            Test::Ifaces(names) => names.clone(),
            Test::Tuple(members) => members.iter().filter_map(|member| member.iface.clone()).collect(),
            _ => Vec::new(),
        }
    };
    let named: BTreeSet<String> = firewall.tests.iter().flat_map(of).collect();
    let (wild, mut names): (BTreeSet<String>, BTreeSet<String>) =
        named.into_iter().partition(|name| name.ends_with('*'));
    for start in wild.iter().filter_map(|name| name.strip_suffix('*')).filter(|start| !start.is_empty()) {
        names.extend(firewall.interfaces.iter().flatten().filter(|name| name.starts_with(start)).cloned());
    }
    std::iter::once(String::new()).chain(names).collect()
}

/// The marks that rules where packets come in give.
fn marks(firewall: &Firewall) -> Vec<u32> {
    let mark = |step: &Step| match step {
        Step::Do(Action::Mark { flip, .. }) => Some(*flip),
        _ => None,
    };
    firewall.rules.iter().flat_map(|rule| &rule.steps).filter_map(mark).collect()
}
