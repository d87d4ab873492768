//! Turns negated conditions into rules of their own: what a rule excepts passes.

use super::Left;
use super::entries::{Index, Interfaces, entries};
use super::flatten::{Action, Item};
use super::selection::{Except, Selection, all_but};
use inlet_core::Match;

/// An item without exceptions.
pub(super) struct Step {
    pub(super) selection: Selection,
    /// The service, or `None`: pass.
    pub(super) to: Option<usize>,
    /// The item that it comes from.
    pub(super) item: usize,
    /// Whether it excepts ports from the next step.
    pub(super) excepts_ports: bool,
}

/// Splits items with exceptions in two: what is excepted passes, when no later rule could have taken it. `goes_on` has
/// the items that later rules may overrule. Items that a ruleset cannot express go to `left`.
pub(super) fn steps(
    items: &[Item],
    goes_on: &[(usize, usize)],
    ifaces: &mut Interfaces,
    left: &mut Vec<Left>,
) -> Vec<Step> {
    let mut splitter = Splitter::new(items, ifaces);
    let mut steps = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let until = goes_on.binary_search_by_key(&number, |(other, _)| *other).map_or(number, |at| goes_on[at].1);
        match splitter.split(number, until) {
            Ok(found) => steps.extend(found),
            Err(refused) => left.extend(refused.into_iter().map(|why| Left { why, ..item.origin.clone() })),
        }
    }
    steps
}

/// Why a ruleset cannot express an item: one reason or several.
type Refused = Vec<String>;

/// Splits items, and finds the later items that take packets from them.
struct Splitter<'a> {
    items: &'a [Item],
    /// The entries of all items with a service.
    all: Index,
    ifaces: &'a mut Interfaces,
}

impl<'a> Splitter<'a> {
    fn new(items: &'a [Item], ifaces: &'a mut Interfaces) -> Self {
        let mut all = Index::default();
        for (number, item) in items.iter().enumerate().filter(|(_, item)| matches!(item.action, Action::To(_))) {
            entries(&item.selection, ifaces).into_iter().for_each(|entry| all.add(number, entry));
        }
        Self { items, all, ifaces }
    }

    /// The steps of an item. Items before `until` may overrule it.
    fn split(&mut self, number: usize, until: usize) -> Result<Vec<Step>, Refused> {
        let items = self.items;
        let Item { action, selection, .. } = &items[number];
        let to = match *action {
            Action::To(service) => Some(service),
            Action::Skip(end) if self.skips_any(number, end)? => None,
            Action::Skip(_) => return Ok(Vec::new()),
        };
        let otherwise = |later: usize| (number + 1..until).contains(&later) && items[later].action != *action;
        if until > number
            && let Some(later) = self.taker(selection, otherwise)
        {
            return Err(vec![self.goes_on_to(later, "without accept after tproxy its packets")]);
        }
        self.without_exceptions(number, to)
    }

    /// Whether packets of an item that continues at `end` pass; false when it skips no item that would take them.
    fn skips_any(&mut self, number: usize, end: usize) -> Result<bool, Refused> {
        let selection = &self.items[number].selection;
        let Some(later) = self.taker(selection, |later| later >= end) else { return Ok(true) };
        match self.taker(selection, |later| (number..end).contains(&later)) {
            // Leaving early changes nothing when no item is skipped.
            None => Ok(false),
            Some(_) => Err(vec![self.goes_on_to(later, "packets that leave the chain here")]),
        }
    }

    /// An item as a step, with a step before it for each exception.
    fn without_exceptions(&mut self, number: usize, to: Option<usize>) -> Result<Vec<Step>, Refused> {
        let whole = &self.items[number].selection;
        let mut selection = whole.clone();
        let (mut excepted, mut refused) = (Vec::new(), Vec::new());
        for except in std::mem::take(&mut selection.except) {
            let Some(mut part) = positive(whole, &except) else { continue };
            part.except.clear();
            match (self.taker(&part, |later| later > number), except) {
                (None, except) => excepted.push((part, matches!(except, Except::Ports(_)))),
                (Some(_), Except::Ports(ports)) => {
                    let others = Selection { ports: all_but(&ports), ..selection.clone() };
                    selection = selection.and(&others);
                }
                (Some(later), _) => refused.push(self.goes_on_to(later, "packets that it excepts")),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let only_ports = matches!(excepted[..], [(_, true)]) && to.is_some();
        let step = |selection, to, excepts_ports| Step { selection, to, item: number, excepts_ports };
        let passes = excepted.into_iter().map(|(part, _)| step(part, None, only_ports));
        Ok(passes.chain([step(selection.clone(), to, false)]).collect())
    }

    /// An item among those that `is_later` that takes packets of a selection.
    fn taker(&mut self, selection: &Selection, is_later: impl Fn(usize) -> bool) -> Option<usize> {
        let takes = |number: usize, entry: &Match| {
            is_later(number) && !self.items[number].selection.excepts(entry, &selection.iface)
        };
        let entries = entries(selection, self.ifaces);
        let meeting = |entry: &Match| self.all.meeting(entry).map(|(number, _)| number).find(|it| takes(*it, entry));
        entries.iter().find_map(meeting)
    }

    fn goes_on_to(&self, later: usize, what: &str) -> String {
        format!("{what} would go on to {}, which a ruleset cannot say", self.items[later].origin.place)
    }
}

/// The packets of a selection that an exception covers.
pub(super) fn positive(selection: &Selection, except: &Except) -> Option<Selection> {
    let mut part = Selection::all();
    match except {
        Except::Local(addresses) => part.local = addresses.clone(),
        Except::Source(addresses) => part.source = addresses.clone(),
        Except::Ports(ports) => part.ports.clone_from(ports),
        Except::Iface(name) => part.iface = Some(name.clone()),
    }
    let mut both = selection.and(&part);
    both.settle();
    (!both.is_empty()).then_some(both)
}
