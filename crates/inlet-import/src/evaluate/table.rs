//! The outcome for all packets of one family and protocol, as functions inside functions: of the local address, of the
//! port,
//! of the source, of the interface. Equal functions are stored once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use inlet_core::{Family, Protocol};

use super::answer::Answers;
use super::budget::Budget;
use super::marks::Marks;
use super::state::{Outcomes, Verdict};
use super::survey::Area;
use super::sweep::{Item, Stretches, stretches};
use super::walk::{Point, Walk};
use crate::firewall::{Firewall, RuleId, Step, Test, TestId, holds, last};

/// What becomes of packets, as far as it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    Sure(Verdict),
    /// This, or something else.
    Perhaps(Verdict),
}

/// Values stored once, by number.
#[derive(Clone, Debug)]
pub(crate) struct Store<T> {
    pub(crate) all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Store<T> {
    pub(crate) fn new() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }

    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

/// By interface and mark: the fate of packets of each, with the first interface for all others. Next to each other are
/// the marks of one interface, the first for all others.
pub(crate) type ByIface = Vec<Fate>;
/// A function of numbers: from each first one on, the number of a further function.
pub(crate) type Steps = Vec<(u128, u32)>;

/// All packets of one family and protocol.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
    /// For each mark that is told apart the numbers of those that hold it too, the one of most bits first; the first is
    /// that of all others.
    pub(crate) marks: Vec<Vec<usize>>,
    pub(crate) ifaces: Store<ByIface>,
    /// By source, functions of `ifaces`.
    pub(crate) sources: Store<Steps>,
    /// By port, functions of `sources`.
    pub(crate) ports: Store<Steps>,
    /// By local address, numbers of `ports`.
    pub(crate) locals: Steps,
    /// Of each function of ports the rules that give its packets their fate.
    pub(crate) labels: Vec<Label>,
}

/// Which rules give packets which fate.
pub(crate) type Label = BTreeMap<Fate, BTreeSet<RuleId>>;

/// Who asks about all packets of one family and protocol.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) firewall: &'a Firewall,
    pub(super) budget: &'a Budget,
    pub(super) marks: &'a [u32],
    pub(super) asked_marks: &'a Marks,
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) to_host: bool,
}

/// A table in the making, with what the functions at hand were made of.
struct Making<'a> {
    table: Table,
    area: &'a mut Area,
    label: Label,
}

impl<'a> Asker<'a> {
    pub(super) fn table(self, area: &mut Area) -> Table {
        let table = Table {
            family: self.family,
            protocol: self.protocol,
            marks: self.asked_marks.around(),
            ifaces: Store::new(),
            sources: Store::new(),
            ports: Store::new(),
            locals: Vec::new(),
            labels: Vec::new(),
        };
        let mut making = Making { table, area, label: Label::new() };
        let none = HashMap::new();
        let all: Vec<Vec<RuleId>> = self.firewall.chains.iter().map(|chain| chain.rules.clone()).collect();
        let chains = self.possible(&all, None);
        let point = Point {
            family: self.family,
            protocol: self.protocol,
            local: None,
            port: None,
            source: None,
            iface: None,
            mark: None,
            chains: &chains,
            members: &none,
        };
        let outcomes = self.ask(point, false, &making.area.ifaces);
        let cut = self.cut(&outcomes, |test| self.local_items(test), 0, last(self.family));
        let mut numbers = Vec::new();
        for (at, notes) in &cut.classes {
            let mut members: HashMap<TestId, Vec<u32>> = HashMap::new();
            notes.iter().for_each(|(test, member)| members.entry(*test).or_default().push(*member));
            making.label = Label::new();
            let chains = self.possible(&chains, Some(*at));
            let point = Point { local: Some(*at), chains: &chains, members: &members, ..point };
            let ports = self.ports(point, &mut making);
            let number = making.table.ports.number(ports);
            if number as usize == making.table.labels.len() {
                making.table.labels.push(Label::new());
            }
            for (fate, rules) in std::mem::take(&mut making.label) {
                making.table.labels[number as usize].entry(fate).or_default().extend(rules);
            }
            numbers.push(number);
        }
        making.table.locals = renumbered(&cut, &numbers);
        making.table
    }

    /// The rules that may be about packets of this family and protocol, to this address: nothing in front of their
    /// first action
    /// says otherwise.
    fn possible(self, chains: &[Vec<RuleId>], local: Option<u128>) -> Vec<Vec<RuleId>> {
        let holds = |test: &Test| match (test, local) {
            (Test::Family(family), _) => *family == self.family,
            (Test::Protocols(protocols), _) => protocols.contains(&self.protocol),
            (Test::Local(set), Some(local)) => holds(set.of(self.family), local),
            _ => true,
        };
        let may = |rule: &RuleId| {
            let tests = self.firewall.rules[*rule].steps.iter().map_while(|step| match step {
                Step::Match { test, not } => Some((*test, *not)),
                Step::Do(_) => None,
            });
            tests.into_iter().all(|(test, not)| not || holds(&self.firewall.tests[test]))
        };
        self.budget.take(chains.iter().map(Vec::len).sum::<usize>() / 16);
        chains.iter().map(|rules| rules.iter().copied().filter(may).collect()).collect()
    }

    fn ask(self, point: Point<'_>, one_port: bool, ifaces: &[String]) -> Outcomes {
        let Self { firewall, marks, asked_marks, to_host, .. } = self;
        let answers = Answers { firewall, point, ifaces, marks, asked_marks, one_port, to_host };
        Walk::new(firewall, answers, self.budget).outcomes()
    }

    /// Cuts numbers as the tests do that the outcome depends on. One outcome needs no cut.
    fn cut<I: Iterator<Item = Item>>(
        self,
        outcomes: &Outcomes,
        items: impl Fn(TestId) -> I,
        first: u128,
        last: u128,
    ) -> Stretches {
        let several = outcomes.verdicts.len() > 1 || outcomes.verdicts.contains_key(&Verdict::Odd);
        let tests: Vec<TestId> = match (outcomes.gave_up, several) {
            // Which tests matter is not known.
            (true, _) => (0..self.firewall.tests.len()).collect(),
            (false, true) => outcomes.asked.iter().copied().collect(),
            (false, false) => Vec::new(),
        };
        let items: Vec<Item> = tests.into_iter().flat_map(items).collect();
        stretches(&items, first, last)
    }

    fn ports(self, point: Point<'_>, making: &mut Making<'_>) -> Steps {
        if self.budget.is_spent() {
            return vec![(1, self.sources(point, false, making))];
        }
        let outcomes = self.ask(point, false, &making.area.ifaces);
        let cut = self.cut(&outcomes, |test| self.port_items(test, point), 1, u16::MAX.into());
        let mut widths = vec![0; cut.classes.len()];
        for (number, (from, class)) in cut.starts.iter().enumerate() {
            let end = cut.starts.get(number + 1).map_or(u128::from(u16::MAX) + 1, |next| next.0);
            widths[*class as usize] += end - from;
        }
        let mut numbers = Vec::new();
        for ((at, _), width) in cut.classes.iter().zip(widths) {
            let point = Point { port: Some(*at as u16), ..point };
            numbers.push(self.sources(point, width == 1, making));
        }
        renumbered(&cut, &numbers)
    }

    fn sources(self, point: Point<'_>, one_port: bool, making: &mut Making<'_>) -> u32 {
        if self.budget.is_spent() {
            let count = making.area.ifaces.len() * self.asked_marks.count();
            let nobody_knows = vec![Fate::Perhaps(Verdict::Odd); count];
            let number = making.table.ifaces.number(nobody_knows);
            return making.table.sources.number(vec![(0, number)]);
        }
        let outcomes = self.ask(point, one_port, &making.area.ifaces);
        let cut = self.cut(&outcomes, |test| self.source_items(test, point), 0, last(self.family));
        let numbers: Vec<u32> = cut
            .classes
            .iter()
            .map(|(at, _)| self.ifaces(Point { source: Some(*at), ..point }, one_port, making))
            .collect();
        let steps = renumbered(&cut, &numbers);
        making.table.sources.number(steps)
    }

    fn ifaces(self, point: Point<'_>, one_port: bool, making: &mut Making<'_>) -> u32 {
        let outcomes = self.ask(point, one_port, &making.area.ifaces);
        let count = making.area.ifaces.len();
        let by_iface = if !outcomes.gave_up && (outcomes.verdicts.len() == 1 || outcomes.asked.is_empty()) {
            let by_mark = self.by_mark(point, one_port, &outcomes, making);
            vec![by_mark; count].concat()
        } else {
            let fates = |iface: usize| {
                let point = Point { iface: Some(iface), ..point };
                let outcomes = self.ask(point, one_port, &making.area.ifaces);
                self.by_mark(point, one_port, &outcomes, making)
            };
            (0..count).flat_map(fates).collect()
        };
        making.table.ifaces.number(by_iface)
    }

    /// The fates by mark, when marks are what is uncertain. It is asked for each mark only where it makes sure.
    fn by_mark(self, point: Point<'_>, one_port: bool, outcomes: &Outcomes, making: &mut Making<'_>) -> Vec<Fate> {
        let count = self.asked_marks.count();
        let is_sure = |outcomes: &Outcomes| {
            outcomes.verdicts.len() == 1 && !outcomes.verdicts.contains_key(&Verdict::Odd) && !outcomes.gave_up
        };
        if count == 1 || is_sure(outcomes) || outcomes.gave_up {
            return vec![self.fate(outcomes, making); count];
        }
        let ask = |mark: usize| self.ask(Point { mark: Some(mark), ..point }, one_port, &making.area.ifaces);
        let by_mark: Vec<Outcomes> = (0..count).map(ask).collect();
        // Of a mark that no packet can have in the end nothing is to be said.
        let is_there = |outcomes: &&Outcomes| !outcomes.verdicts.is_empty();
        if !by_mark.iter().filter(is_there).all(is_sure) || by_mark[0].verdicts.is_empty() {
            return vec![self.fate(outcomes, making); count];
        }
        let usual = self.fate(&by_mark[0], making);
        let fate = |outcomes: &Outcomes| Some(outcomes).filter(is_there).map(|outcomes| self.fate(outcomes, making));
        by_mark.iter().map(fate).map(|fate| fate.unwrap_or(usual)).collect()
    }

    /// What is certain, or the socket that may get the packet.
    fn fate(self, outcomes: &Outcomes, making: &mut Making<'_>) -> Fate {
        let first = |wanted: fn(&Verdict) -> bool| outcomes.verdicts.keys().copied().find(wanted);
        let fate = match outcomes.verdicts.keys().copied().collect::<Vec<_>>().as_slice() {
            [one] if *one != Verdict::Odd => Fate::Sure(*one),
            all => {
                let steered = first(|verdict| matches!(verdict, Verdict::To(_)));
                let refused = first(|verdict| *verdict == Verdict::Refuse).filter(|_| !all.contains(&Verdict::Odd));
                Fate::Perhaps(steered.or(refused).unwrap_or(Verdict::Odd))
            }
        };
        match fate {
            Fate::Sure(verdict) | Fate::Perhaps(verdict) => {
                let rules = outcomes.verdicts.get(&verdict).into_iter().flatten().copied();
                making.label.entry(fate).or_default().extend(rules);
            }
        }
        if matches!(fate, Fate::Perhaps(_)) {
            making.area.doubts.extend(outcomes.doubts.iter().cloned());
        }
        fate
    }
}

/// The stretches with the numbers of their classes' functions, those of one function joined.
fn renumbered(cut: &Stretches, numbers: &[u32]) -> Steps {
    let mut steps: Steps = cut.starts.iter().map(|(at, class)| (*at, numbers[*class as usize])).collect();
    steps.dedup_by_key(|(_, number)| *number);
    steps
}
