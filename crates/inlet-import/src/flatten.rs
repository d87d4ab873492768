//! Flattens chains that jump to chains into one list, in the order in which packets meet the rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::Left;
use super::selection::Selection;
use super::services::Targets;
use inlet_core::{Prefix, Protocol};

/// The rules of a firewall, as read.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// The rules of each chain. Names are unique across tables.
    pub(super) rules: BTreeMap<String, Vec<Line>>,
    /// The base chains, in the order in which packets meet them.
    pub(super) bases: Vec<Base>,
    /// The named sets of addresses that rules use.
    pub(super) sets: BTreeMap<String, Vec<Prefix>>,
}

/// A base chain, where packets come in.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) chain: String,
    /// The protocols whose packets it skips when an earlier chain has given them a socket.
    pub(super) keeps: BTreeSet<Protocol>,
}

/// A rule as it was read.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: String,
    pub(super) text: String,
    pub(super) comment: Option<String>,
    /// The packets that it matches: those of any of these.
    pub(super) selections: Vec<Selection>,
    pub(super) target: Target,
    /// A condition or target that a ruleset cannot express.
    pub(super) unknown: Option<String>,
}

/// Where a rule sends packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a socket. `goes_on`: later rules are tried too.
    Tproxy {
        addr: Option<IpAddr>,
        port: u16,
        goes_on: bool,
    },
    Accept,
    Return,
    Jump(String),
    Goto(String),
    /// Nowhere: it marks, counts or logs, or it is about connections, which do not concern a ruleset.
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
    /// Continue at the item of this number.
    Skip(usize),
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub(super) items: Vec<Item>,
    pub(super) left: Vec<Left>,
    pub(super) targets: Targets,
    pub(super) sets: BTreeMap<String, Vec<Prefix>>,
    /// Items that later rules may overrule, each with the end of its base chain.
    pub(super) goes_on: Vec<(usize, usize)>,
}

/// Marks an item after which packets leave the chain, until its end is known.
const CHAIN_END: usize = usize::MAX;
/// Marks an item after which packets leave the base chain: `accept` ends only that one.
const BASE_END: usize = usize::MAX - 1;

/// The deepest jump; the kernel's limit is 16.
const DEPTH: usize = 32;

pub(super) fn flatten(chains: Chains) -> Flat {
    let mut flat = Flat { sets: chains.sets.clone(), ..Flat::default() };
    for (chain, protocols) in order(&chains) {
        let first = flat.items.len();
        let within = Selection { protocols, ..Selection::all() };
        walk(&chains, chain, &within, 0, &mut flat);
        let end = flat.items.len();
        settle(&mut flat.items[first..], BASE_END, end);
        flat.goes_on.iter_mut().filter(|(item, _)| *item >= first).for_each(|(_, until)| *until = end);
    }
    // A chain that is walked twice reports its problems once.
    let mut seen = BTreeSet::new();
    flat.left.retain(|left| seen.insert((left.place.clone(), left.why.clone())));
    flat
}

/// The base chains as one list, of which the first with a socket for a packet decides.
///
/// Packets go through all base chains and keep the socket that they got last. So a later chain comes before the earlier
/// ones, except for packets that it skips once they have a socket.
fn order(chains: &Chains) -> VecDeque<(&str, BTreeSet<Protocol>)> {
    let mut list = VecDeque::new();
    for Base { chain, keeps } in chains.bases.iter().filter(|base| reaches_tproxy(chains, &base.chain, 0)) {
        let (front, back) = match list.is_empty() {
            true => (Protocol::ALL.into(), BTreeSet::new()),
            false => (&BTreeSet::from(Protocol::ALL) - keeps, keeps.clone()),
        };
        if !front.is_empty() {
            list.push_front((chain.as_str(), front));
        }
        if !back.is_empty() {
            list.push_back((chain.as_str(), back));
        }
    }
    list
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
                        // After that chain packets do not come back to this one.
                        Target::Goto(_) if depth > 0 => Action::Skip(CHAIN_END),
                        Target::Goto(_) => Action::Skip(BASE_END),
                        _ => continue,
                    }
                }
                Target::Tproxy { addr, port, goes_on } => {
                    if *goes_on {
                        flat.goes_on.push((flat.items.len(), BASE_END));
                    }
                    Action::To(flat.targets.number(*addr, *port, selection.protocols.iter().copied()))
                }
                Target::Return if depth > 0 => Action::Skip(CHAIN_END),
                _ => Action::Skip(BASE_END),
            };
            flat.items.push(Item { origin: origin(""), comment: line.comment.clone(), selection, action });
        }
    }
    let end = flat.items.len();
    settle(&mut flat.items[first..], CHAIN_END, end);
}

/// Replaces a mark by the item at which packets continue.
fn settle(items: &mut [Item], mark: usize, end: usize) {
    for item in items.iter_mut().filter(|item| item.action == Action::Skip(mark)) {
        item.action = Action::Skip(end);
    }
}
