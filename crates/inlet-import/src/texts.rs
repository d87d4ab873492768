//! Writes rules in the words of a ruleset file, with lists where all entries are kept.

use std::collections::{BTreeMap, HashSet};

use super::entries::{Index, Interfaces};
use super::flatten::Item;
use super::selection::Addresses;
use super::steps::Step;
use super::{RuleText, ServiceText};
use inlet_core::{Match, Prefix};

/// Rules in the words of the file.
pub(super) struct Texts<'a> {
    pub(super) items: &'a [Item],
    pub(super) steps: &'a [Step],
    pub(super) services: &'a [ServiceText],
    pub(super) ifaces: &'a Interfaces,
}

impl Texts<'_> {
    /// The rules of all steps. A step whose entries are all kept becomes one rule with lists, and excepted ports become
    /// part of the rule from which they are taken.
    pub(super) fn rules(&self, entries: &[Vec<Match>], order: &Index) -> Vec<RuleText> {
        let mut by_step: BTreeMap<usize, HashSet<Match>> = BTreeMap::new();
        order.all().into_iter().for_each(|(step, entry)| _ = by_step.entry(step).or_default().insert(entry));
        let is_whole = |step: usize| {
            let (all, there) = (entries.get(step), by_step.get(&step));
            all.zip(there).is_some_and(|(all, there)| !all.is_empty() && all.iter().all(|entry| there.contains(entry)))
        };
        let excepts = |step: usize| self.steps[step].excepts_ports && is_whole(step) && is_whole(step + 1);
        let mut rules = Vec::new();
        for (step, there) in &by_step {
            let all: HashSet<Match> = entries[*step].iter().copied().collect();
            let mut singles: Vec<Match> =
                there.iter().filter(|entry| !is_whole(*step) || !all.contains(entry)).copied().collect();
            singles.sort_by_key(|entry| (entry.local, entry.protocol, entry.ports, entry.source, entry.iface));
            if is_whole(*step) && !excepts(*step) {
                rules.push(self.whole(*step, *step > 0 && excepts(*step - 1)));
            }
            rules.extend(singles.iter().map(|entry| self.single(*step, entry, "before later rules")));
        }
        rules
    }

    /// A step as one rule with lists. `excepting`: the step before it takes ports out of it.
    fn whole(&self, number: usize, excepting: bool) -> RuleText {
        let selection = &self.steps[number].selection;
        let prefixes = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect();
        let local = match &selection.local {
            Addresses::These(Some(name), _) => vec![format!("@{name}")],
            _ => prefixes(&selection.locals()),
        };
        let from = match &selection.source {
            Addresses::Any => Vec::new(),
            Addresses::These(Some(name), _) => vec![format!("@{name}")],
            Addresses::These(None, sources) => prefixes(sources),
        };
        RuleText {
            to: self.to(number),
            protocols: selection.protocols.iter().copied().collect(),
            local,
            ports: selection.ports.clone(),
            except: if excepting { self.steps[number - 1].selection.ports.clone() } else { Vec::new() },
            from,
            iface: selection.iface.as_ref().map(|name| name.as_str().to_owned()),
            note: self.note(number),
        }
    }

    fn single(&self, number: usize, entry: &Match, how: &str) -> RuleText {
        RuleText {
            to: self.to(number),
            protocols: vec![entry.protocol],
            local: vec![entry.local.to_string()],
            ports: vec![entry.ports],
            except: Vec::new(),
            from: entry.source.iter().map(Prefix::to_string).collect(),
            iface: entry.iface.map(|id| self.ifaces.0[id.index()].as_str().to_owned()),
            note: format!("{}, {how}", self.note(number)),
        }
    }

    fn to(&self, number: usize) -> Option<String> {
        self.steps[number].to.map(|service| self.services[service].name.clone())
    }

    fn note(&self, number: usize) -> String {
        let item = &self.items[self.steps[number].item];
        match &item.comment {
            Some(comment) => format!("{}: {comment}", item.origin.place),
            None => item.origin.place.clone(),
        }
    }
}
