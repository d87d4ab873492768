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

/// Splits items with exceptions in two: what is excepted passes, when no later rule could have taken it.
pub(super) fn steps(
    items: &[Item],
    goes_on: &[(usize, usize)],
    ifaces: &mut Interfaces,
    left: &mut Vec<Left>,
) -> Vec<Step> {
    let mut all = Index::default();
    for (number, item) in items.iter().enumerate().filter(|(_, item)| matches!(item.action, Action::To(_))) {
        entries(&item.selection, ifaces).into_iter().for_each(|entry| all.add(number, entry));
    }
    let mut meets_later = |selection: &Selection, later: &dyn Fn(usize) -> bool| {
        let entries = entries(selection, ifaces);
        let takes =
            |number: usize, entry: &Match| later(number) && !items[number].selection.excepts(entry, &selection.iface);
        entries
            .iter()
            .find_map(|entry| all.meeting(entry).map(|(number, _)| number).find(|number| takes(*number, entry)))
    };
    let mut steps = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let mut refuse = |later: usize, what: &str| {
            let why = format!("{what} would go on to {}, which a ruleset cannot say", items[later].origin.place);
            left.push(Left { why, ..item.origin.clone() });
        };
        let to = match item.action {
            Action::To(service) => Some(service),
            Action::Skip(end) => {
                if let Some(later) = meets_later(&item.selection, &|later| later >= end) {
                    // Leaving early changes nothing when no item is skipped.
                    if meets_later(&item.selection, &|later| (number..end).contains(&later)).is_none() {
                        continue;
                    }
                    refuse(later, "packets that leave the chain here");
                    continue;
                }
                None
            }
        };
        let until = goes_on.binary_search_by_key(&number, |(other, _)| *other).map_or(number, |at| goes_on[at].1);
        let otherwise = |later: usize| (number + 1..until).contains(&later) && items[later].action != item.action;
        if until > number
            && let Some(later) = meets_later(&item.selection, &otherwise)
        {
            refuse(later, "without accept after tproxy its packets");
            continue;
        }
        let mut selection = item.selection.clone();
        let mut before = Vec::new();
        let mut possible = true;
        for except in std::mem::take(&mut selection.except) {
            let (mut excepted, ports) = match positive(&item.selection, &except) {
                Some(excepted) => (excepted, matches!(except, Except::Ports(_))),
                None => continue,
            };
            excepted.except.clear();
            match (meets_later(&excepted, &|later| later > number), except) {
                (None, _) => before.push((excepted, ports)),
                (Some(_), Except::Ports(excepted)) => {
                    let others = Selection { ports: all_but(&excepted), ..selection.clone() };
                    selection = selection.and(&others);
                }
                (Some(later), _) => {
                    refuse(later, "packets that it excepts");
                    possible = false;
                }
            }
        }
        if possible {
            let only_ports = before.len() == 1 && before[0].1 && to.is_some();
            steps.extend(before.into_iter().map(|(selection, _)| Step {
                selection,
                to: None,
                item: number,
                excepts_ports: only_ports,
            }));
            steps.push(Step { selection, to, item: number, excepts_ports: false });
        }
    }
    steps
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
