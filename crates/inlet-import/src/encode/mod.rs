//! The outcome for all packets, written as rules of which the most specific one decides.

mod aggregate;
mod rows;
mod shapes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use inlet_core::{Family, Prefix, Protocol};

use self::aggregate::{Labels, NONE, aggregate, aggregate_by};
use self::shapes::Functions;
use crate::evaluate::{Fate, Table, Target, Verdict};
use crate::firewall::{RuleId, Spans, to_prefix};

pub(crate) use self::rows::Row;
use self::shapes::Shape;

/// What a rule of a ruleset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Choice {
    To(Target),
    Refuse,
    Pass,
}

/// Which of the possible outcomes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Only what is certain.
    Certain,
    /// As if what is not known stood in nobody's way.
    Hoped,
}

impl Reading {
    fn of(self, fate: Fate) -> Choice {
        match (self, fate) {
            (_, Fate::Sure(Verdict::To(target))) | (Self::Hoped, Fate::Perhaps(Verdict::To(target))) => {
                Choice::To(target)
            }
            (_, Fate::Sure(Verdict::Refuse)) | (Self::Hoped, Fate::Perhaps(Verdict::Refuse)) => Choice::Refuse,
            _ => Choice::Pass,
        }
    }
}

/// The rules for all tables: those of what is certain, and those that would be there besides if what is not known stood
/// in
/// nobody's way. `elsewhere` are tables of packets that do not come.
pub(crate) fn rows(tables: &[Table], elsewhere: &[Table]) -> (Vec<Row>, Vec<Row>) {
    let read = |tables: &[Table], reading: Reading| -> Vec<Row> {
        tables.iter().flat_map(|table| Encoder::new(table, reading).rows()).collect()
    };
    let certain = read(tables, Reading::Certain);
    let is_open = |fate: &Fate| matches!(fate, Fate::Perhaps(_));
    let open = tables.iter().any(|table| table.ifaces.all.iter().flatten().any(is_open));
    let mut hoped = if open { read(tables, Reading::Hoped) } else { Vec::new() };
    hoped.extend(read(elsewhere, Reading::Hoped));
    let known: HashSet<&Row> = certain.iter().collect();
    hoped.retain(|row| !known.contains(row));
    (rows::merged(certain), rows::merged(hoped))
}

/// The prefixes of exactly these addresses, as few as can be.
pub(crate) fn prefixes(family: Family, spans: &Spans) -> Vec<Prefix> {
    let mut ranges = Vec::with_capacity(spans.len() * 2 + 1);
    let mut at = Some(0);
    for (first, last) in spans {
        if at.is_some_and(|at| at < *first) {
            ranges.extend(at.map(|at| (at, Labels::Of(vec![NONE]))));
        }
        ranges.push((*first, Labels::Of(vec![0])));
        at = last.checked_add(1).filter(|next| *next <= crate::firewall::last(family));
    }
    ranges.extend(at.map(|at| (at, Labels::Of(vec![NONE]))));
    aggregate(&ranges, family.bits()).iter().filter_map(|found| to_prefix(family, found.first, found.len)).collect()
}

/// One table, as far as verdicts go.
struct Encoder {
    family: Family,
    protocol: Protocol,
    functions: Functions,
    locals: Vec<(u128, u32)>,
    lines: Vec<BTreeMap<Choice, BTreeSet<RuleId>>>,
    /// The function that passes everything.
    pass: u32,
}

impl Encoder {
    fn new(table: &Table, reading: Reading) -> Self {
        let mut functions = Functions { marks: table.marks.clone(), ..Functions::default() };
        let ifaces = |fates: &Vec<Fate>| fates.iter().map(|fate| reading.of(*fate)).collect::<Vec<_>>();
        let iface_numbers = renumber(table.ifaces.all.iter().map(ifaces), &mut functions.ifaces);
        let through = |numbers: &[u32], steps: &Vec<(u128, u32)>| {
            let mut steps: Vec<_> = steps.iter().map(|(at, number)| (*at, numbers[*number as usize])).collect();
            steps.dedup_by_key(|(_, number)| *number);
            steps
        };
        let source_steps = table.sources.all.iter().map(|steps| through(&iface_numbers, steps));
        let source_numbers = renumber(source_steps, &mut functions.sources);
        let port_steps = table.ports.all.iter().map(|steps| through(&source_numbers, steps));
        let port_numbers = renumber(port_steps, &mut functions.ports);
        let locals = through(&port_numbers, &table.locals);
        let mut lines = vec![BTreeMap::<Choice, BTreeSet<RuleId>>::new(); functions.ports.len()];
        for (label, number) in table.labels.iter().zip(&port_numbers) {
            for (fate, rules) in label {
                lines[*number as usize].entry(reading.of(*fate)).or_default().extend(rules);
            }
        }
        let pass = functions.passing();
        Self { family: table.family, protocol: table.protocol, functions, locals, lines, pass }
    }

    fn rows(&self) -> Vec<Row> {
        let label = |number: u32| match number == self.pass {
            true => Labels::Of(vec![number, NONE]),
            false => Labels::Of(vec![number]),
        };
        let ranges: Vec<_> = self.locals.iter().map(|(at, number)| (*at, label(*number))).collect();
        let ranges = never_seen(self.family)
            .into_iter()
            .fold(ranges, |ranges, unseen| without_care(self.family, ranges, unseen));
        let mut groups: BTreeMap<(u32, u32), Vec<Prefix>> = BTreeMap::new();
        let mut costs: HashMap<(u32, u32), usize> = HashMap::new();
        let mut cost = |own: u32, around: u32| {
            let around = if around == NONE { self.pass } else { around };
            *costs.entry((own, around)).or_insert_with(|| self.functions.shapes(self.family, own, around).len())
        };
        for found in aggregate_by(&ranges, self.family.bits(), &mut cost) {
            let prefix = to_prefix(self.family, found.first, found.len);
            groups.entry((found.label, found.around)).or_default().extend(prefix);
        }
        let mut rows = Vec::new();
        for ((own, around), locals) in groups {
            let around = if around == NONE { self.pass } else { around };
            let shapes = self.functions.shapes(self.family, own, around);
            let lines = self.lines.get(own as usize);
            rows.extend(rows::of_group(self.family, self.protocol, &locals, shapes, |choice| {
                lines.and_then(|lines| lines.get(&choice)).cloned().unwrap_or_default()
            }));
        }
        rows
    }
}

impl Functions {
    /// The number of the function that passes everything, which is made when it is not there.
    fn passing(&mut self) -> u32 {
        let count = self.ifaces.first().map_or(1, Vec::len);
        let iface = place(&mut self.ifaces, vec![Choice::Pass; count]);
        let source = place(&mut self.sources, vec![(0, iface)]);
        place(&mut self.ports, vec![(1, source)])
    }
}

fn place<T: PartialEq>(all: &mut Vec<T>, value: T) -> u32 {
    let number = all.iter().position(|other| *other == value).unwrap_or_else(|| {
        all.push(value);
        all.len() - 1
    });
    number as u32
}

/// Stores each value once: for each its number.
fn renumber<T: Clone + Eq + std::hash::Hash>(values: impl Iterator<Item = T>, all: &mut Vec<T>) -> Vec<u32> {
    let mut known: HashMap<T, u32> = HashMap::new();
    values
        .map(|value| {
            *known.entry(value).or_insert_with_key(|value| {
                all.push(value.clone());
                all.len() as u32 - 1
            })
        })
        .collect()
}

/// Addresses whose packets no rule ever sees: multicast, broadcast, IPv4-mapped.
fn never_seen(family: Family) -> Vec<(u128, u128)> {
    match family {
        Family::V4 => vec![(0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)],
        Family::V6 => vec![(0xffff << 32, 0xffff << 32 | 0xffff_ffff), (0xff << 120, u128::MAX)],
    }
}

/// The ranges, where any label will do from `first` to `last`.
fn without_care(family: Family, ranges: Vec<(u128, Labels)>, (first, last): (u128, u128)) -> Vec<(u128, Labels)> {
    let mut found = Vec::with_capacity(ranges.len() + 2);
    let before = ranges.partition_point(|range| range.0 < first);
    let resumes = Some(last).filter(|last| *last < crate::firewall::last(family)).map(|last| last + 1);
    let after = resumes.map_or(ranges.len(), |next| ranges.partition_point(|range| range.0 <= next));
    found.extend_from_slice(&ranges[..before]);
    found.push((first, Labels::Any));
    if let Some(next) = resumes.filter(|_| after > 0) {
        found.push((next, ranges[after - 1].1.clone()));
    }
    found.extend_from_slice(&ranges[after..]);
    found
}
