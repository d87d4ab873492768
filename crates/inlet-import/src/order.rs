//! Turns "the first rule that matches decides" into "the most specific rule decides", with the same answer for every
//! packet.
//!
//! Rules become entries with one prefix and one port range. Where two entries meet and precedence would choose the
//! later one, their intersection becomes an entry with the verdict of the earlier one. Entries that an earlier rule
//! covers are dropped. A rule whose entries all stay keeps its lists.

use std::collections::HashSet;

use super::entries::{Index, Interfaces, entries, meet};
use super::flatten::Flat;
use super::steps::{Step, steps};
use super::texts::Texts;
use super::{Imported, Left};
use inlet_core::{Match, PortRange, Precedence};

/// The most additional entries; with more the result is of no use.
const MOST: usize = 100_000;

pub(super) fn settle(flat: Flat) -> Imported {
    let Flat { items, mut left, targets, sets, goes_on } = flat;
    let mut ifaces = Interfaces::default();
    let steps = steps(&items, &goes_on, &mut ifaces, &mut left);
    let services = targets.texts();
    let entries: Vec<Vec<Match>> = steps.iter().map(|step| entries(&step.selection, &mut ifaces)).collect();
    let mut original = Index::default();
    entries.iter().enumerate().for_each(|(number, all)| all.iter().for_each(|entry| original.add(number, *entry)));
    let kept = keep(&steps, &original, &entries);
    let Some(order) = in_order(&steps, &original, kept) else {
        let why = format!("keeping it takes more than {MOST} rules; let the rules overlap less");
        left.push(Left { place: "all".to_owned(), text: "the order of the rules".to_owned(), why });
        return Imported { left, ..Imported::default() };
    };
    let text = Texts { items: &items, steps: &steps, services: &services, ifaces: &ifaces };
    let rules = text.rules(&entries, &order);
    let named = sets.into_iter().filter(|(name, _)| {
        let reference = format!("@{name}");
        rules.iter().any(|rule| rule.local.contains(&reference) || rule.from.contains(&reference))
    });
    Imported { sets: named.collect(), services, rules, left }
}

/// The entries of each step that no earlier step covers.
fn keep(steps: &[Step], original: &Index, entries: &[Vec<Match>]) -> Vec<Vec<Match>> {
    let mut seen = HashSet::new();
    let covered = |number: usize, entry: &Match| {
        original.first_around(entry).is_some_and(|first| first < number && steps[first].to != steps[number].to)
    };
    entries
        .iter()
        .enumerate()
        .map(|(number, all)| {
            all.iter().filter(|entry| !covered(number, entry) && seen.insert(**entry)).copied().collect()
        })
        .collect()
}

/// The entries, each with its step, for which the most specific entry gives each packet what the first step gives it.
/// `None` when there are too many.
fn in_order(steps: &[Step], original: &Index, kept: Vec<Vec<Match>>) -> Option<Index> {
    let mut now = Index::default();
    let mut known = HashSet::new();
    let mut add = |now: &mut Index, entry: Match| {
        if known.insert(entry)
            && let Some(first) = original.first_around(&entry)
        {
            now.add(first, entry);
        }
    };
    let all = kept.iter().map(Vec::len).sum::<usize>();
    kept.into_iter().flatten().for_each(|entry| add(&mut now, entry));
    loop {
        let mut changed = false;
        for (step, entry) in now.all() {
            for (other_step, other) in now.around(entry.local).collect::<Vec<_>>() {
                let Some(both) = meet(&entry, &other).filter(|_| entry != other) else { continue };
                let (rank, other_rank) = (Precedence::of(&entry), Precedence::of(&other));
                let winner = if rank < other_rank { step } else { other_step };
                let tie = rank == other_rank;
                let right = original.first_around(&both).is_none_or(|first| steps[first].to == steps[winner].to);
                if (right && !tie) || !now.has(&entry) || !now.has(&other) {
                    continue;
                }
                let before = now.len();
                add(&mut now, both);
                if tie {
                    // Ranges of one width cross: cut the later one down to the ports that the other does not have.
                    let (cut, from) = if step > other_step { (entry, other) } else { (other, entry) };
                    now.remove(&cut);
                    add(&mut now, without(&cut, &from));
                }
                changed |= tie || now.len() != before;
            }
        }
        if !changed {
            return Some(now);
        }
        if now.len() > all + MOST {
            return None;
        }
    }
}

/// The ports of `cut` without those of `from`, which overlaps it and is as wide.
fn without(cut: &Match, from: &Match) -> Match {
    let (first, last) = match cut.ports.first() < from.ports.first() {
        true => (cut.ports.first(), from.ports.first() - 1),
        false => (from.ports.last() + 1, cut.ports.last()),
    };
    Match { ports: PortRange::new(first, last).unwrap_or(cut.ports), ..*cut }
}
