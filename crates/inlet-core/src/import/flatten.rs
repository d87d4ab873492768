//! Chains that jump to chains, as one list in the order in which packets meet the rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Left;
use super::selection::Selection;
use super::services::Targets;
use crate::Prefix;

/// What was read of a firewall.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// The rules of each chain, by a name that tells chains of several tables apart.
    pub(super) rules: BTreeMap<String, Vec<Line>>,
    /// The chains where packets come in.
    pub(super) bases: Vec<String>,
    /// The named sets of addresses that rules use.
    pub(super) sets: BTreeMap<String, Vec<Prefix>>,
}

/// A rule as it was read.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: String,
    pub(super) text: String,
    pub(super) comment: Option<String>,
    /// The packets it is about: those of any of these.
    pub(super) selections: Vec<Selection>,
    pub(super) target: Target,
    /// A condition or target that a ruleset has no words for.
    pub(super) unknown: Option<String>,
}

/// Where a rule sends packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a socket. Whether rules after it are tried too.
    Tproxy {
        addr: Option<IpAddr>,
        port: u16,
        goes_on: bool,
    },
    Accept,
    Return,
    Jump(String),
    Goto(String),
    /// Nowhere: it marks, counts or logs, or is about connections that are no concern of a ruleset.
    None,
}

/// A rule of the list.
#[derive(Debug)]
pub(super) struct Item {
    /// The rule it comes from.
    pub(super) origin: Left,
    pub(super) comment: Option<String>,
    pub(super) selection: Selection,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To the service of this number.
    To(usize),
    Pass,
    /// On with the item of this number.
    Skip(usize),
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub(super) items: Vec<Item>,
    pub(super) left: Vec<Left>,
    pub(super) targets: Targets,
    pub(super) sets: BTreeMap<String, Vec<Prefix>>,
    /// Items that rules after them could overrule.
    pub(super) goes_on: Vec<usize>,
}

/// Chains jump no deeper; the kernel's limit is 16.
const DEPTH: usize = 32;

pub(super) fn flatten(chains: Chains) -> Flat {
    let mut flat = Flat { sets: chains.sets.clone(), ..Flat::default() };
    let all = Selection::all(true, true);
    for base in &chains.bases {
        if reaches_tproxy(&chains, base, 0) {
            walk(&chains, base, &all, 0, &mut flat);
        }
    }
    flat
}

fn reaches_tproxy(chains: &Chains, chain: &str, depth: usize) -> bool {
    let rules = chains.rules.get(chain).into_iter().flatten();
    depth < DEPTH
        && rules.into_iter().any(|line| match &line.target {
            Target::Tproxy { .. } => true,
            Target::Jump(to) | Target::Goto(to) => reaches_tproxy(chains, to, depth + 1),
            _ => false,
        })
}

fn walk(chains: &Chains, chain: &str, within: &Selection, depth: usize, flat: &mut Flat) {
    let first = flat.items.len();
    for line in chains.rules.get(chain).into_iter().flatten() {
        let origin = |why: &str| Left { place: line.place.clone(), text: line.text.clone(), why: why.to_owned() };
        if line.target == Target::None {
            continue;
        }
        if let Some(why) = &line.unknown {
            flat.left.push(origin(why));
            continue;
        }
        for selection in &line.selections {
            let mut selection = within.and(selection);
            selection.settle();
            if selection.is_empty() {
                continue;
            }
            let action = match &line.target {
                Target::Jump(to) | Target::Goto(to) if depth < DEPTH => {
                    walk(chains, to, &selection, depth + 1, flat);
                    match line.target {
                        // After the chain packets do not come back to this one.
                        Target::Goto(_) if depth > 0 => Action::Skip(usize::MAX),
                        Target::Goto(_) => Action::Pass,
                        _ => continue,
                    }
                }
                Target::Tproxy { addr, port, goes_on } => {
                    if *goes_on {
                        flat.goes_on.push(flat.items.len());
                    }
                    Action::To(flat.targets.number(*addr, *port, selection.protocols.iter().copied()))
                }
                Target::Return if depth > 0 => Action::Skip(usize::MAX),
                _ => Action::Pass,
            };
            flat.items.push(Item { origin: origin(""), comment: line.comment.clone(), selection, action });
        }
    }
    let end = flat.items.len();
    // Where packets that leave this chain early go on: after its end.
    for item in &mut flat.items[first..] {
        if item.action == Action::Skip(usize::MAX) {
            item.action = Action::Skip(end);
        }
    }
}
