//! Finds the part of a ruleset that matters for a few prefixes, without a look at the rest.

use crate::rule::{Prefix, Protocol};
use crate::ruleset::{Entry, Plan, Ruleset, Shape, group};

/// Looking up one prefix costs as much as walking this many rules.
const RULES_A_PREFIX: usize = 16;

/// The prefixes of rules that differ, in order, none inside another. `None`: walk all rules, because many differ or an
/// interface has another index, which may concern any rule.
pub(super) fn changed(previous: &Ruleset, new: &Ruleset, plan: &Plan) -> Option<Vec<Prefix>> {
    let index = |name| previous.interfaces().iter().find(|interface| interface.name == name).map(|it| it.index);
    let moved = new.interfaces().iter().any(|it| index(it.name).is_some_and(|index| index != it.index));
    if moved || !is_worthwhile(plan.rules.len(), previous, new) {
        return None;
    }
    Some(outermost(plan.rules.iter().map(|change| change.matching().local).collect()))
}

/// Whether it is faster to look up so many prefixes than to walk all rules.
pub(super) fn is_worthwhile(prefixes: usize, previous: &Ruleset, new: &Ruleset) -> bool {
    prefixes * RULES_A_PREFIX <= previous.len() + new.len()
}

/// The prefixes that are not inside another one, in order.
pub(super) fn outermost(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_unstable();
    // A prefix comes right before those inside it.
    prefixes.dedup_by(|inner, outer| outer.covers(inner));
    prefixes
}

/// The prefixes of all addresses that are in both lists. Each list is in order, and no prefix is inside another.
pub(super) fn shared(some: &[Prefix], others: &[Prefix]) -> Vec<Prefix> {
    // The prefix that covers another one comes right before it, or is it.
    let is_within = |prefix: &Prefix, all: &[Prefix]| {
        let before = all.partition_point(|other| other <= prefix).checked_sub(1);
        before.is_some_and(|at| all[at].covers(prefix))
    };
    let of_some = some.iter().filter(|prefix| is_within(prefix, others));
    let of_others = others.iter().filter(|prefix| is_within(prefix, some));
    outermost(of_some.chain(of_others).copied().collect())
}

/// The entries of these prefixes, of all prefixes inside them and of all around them.
pub(super) fn near<E: Entry>(entries: &[E], prefixes: &[Prefix]) -> Vec<E> {
    let mut near = Vec::new();
    for prefix in prefixes {
        for len in 0..prefix.len() {
            let around = Prefix::holding(prefix.addr(), len);
            near.extend(around.iter().flat_map(|around| group(entries, *around)));
        }
        let inside = &entries[entries.partition_point(|entry| *entry < E::new(*prefix, 0))..];
        near.extend(inside.iter().take_while(|entry| prefix.covers(&entry.local())));
    }
    near.sort_unstable();
    near.dedup();
    near
}

/// The rules that packets of a protocol to a port can match. Other shapes stay, unused.
pub(super) fn about(ruleset: &Ruleset, protocol: Protocol, port: u16) -> Ruleset {
    let is_about = |shape: &Shape| shape.protocol == protocol && shape.ports.contains(port);
    let wanted: Vec<bool> = ruleset.shapes.iter().map(is_about).collect();
    Ruleset {
        services: ruleset.services.clone(),
        interfaces: ruleset.interfaces.clone(),
        shapes: ruleset.shapes.clone(),
        v4: of_shapes(&ruleset.v4, &wanted),
        v6: of_shapes(&ruleset.v6, &wanted),
    }
}

fn of_shapes<E: Entry>(entries: &[E], wanted: &[bool]) -> Vec<E> {
    entries.iter().filter(|entry| wanted[entry.shape() as usize]).copied().collect()
}
