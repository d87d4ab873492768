//! The listeners that lose packets by a change.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use inlet_core::{Moved, Verdict, traffic_to};

use super::{Step, Warning};
use crate::snapshot::losses::{Losses, add_joined};

/// So many areas that a listener loses are named.
const AREAS: usize = 100;

/// The listeners that lose packets, which can only be packets to local addresses.
pub(super) fn lost(losses: &Losses<'_>, step: &Step<'_>) -> Vec<Warning> {
    let sockets = &losses.now.sockets;
    let of_clients = if step.answers_unable { Vec::new() } else { step.after.ports_of_clients() };
    let (mut order, mut found): (Vec<u64>, BTreeMap<u64, Vec<Moved>>) = (Vec::new(), BTreeMap::new());
    traffic_to(losses.old, losses.new, step.plan, losses.local_prefixes(), &mut |moved| {
        let ordinary = !matches!(moved.previous.map(|rule| rule.verdict), Some(Verdict::Service(_) | Verdict::Refuse));
        let at = sockets.at(moved.protocol, moved.ports.first(), moved.ports.last());
        for listed in at.filter(|_| ordinary) {
            if found.get(&listed.cookie).is_some_and(|lost| lost.len() > AREAS) {
                continue;
            }
            for part in losses.parts(listed, &moved) {
                let lost = found.entry(listed.cookie).or_insert_with(|| {
                    order.push(listed.cookie);
                    Vec::new()
                });
                add_joined(lost, part.moved);
            }
        }
        ControlFlow::Continue(())
    });
    let warning = |cookie: u64| {
        let (listed, mut lost) = (sockets.get(cookie)?, found.remove(&cookie)?);
        let is_all = lost.len() <= AREAS;
        lost.truncate(AREAS);
        let (socket, answers_pass) = (sockets.describe_listed(&listed), listed.is_client(&of_clients));
        Some(Warning::Loses { socket, lost, is_all, answers_pass })
    };
    order.into_iter().filter_map(warning).collect()
}
