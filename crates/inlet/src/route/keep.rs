//! The local routes that Inlet keeps, so that packets for the prefixes of rules get to the host's sockets.
//!
//! Ours have a protocol number of their own. A route that somebody else made is never changed, and what one makes local
//! needs none of ours.

use std::collections::BTreeSet;

use inlet_core::{Prefix, PrefixSet, Ruleset, steered_prefixes};

use super::table::{Route, RouteTable};
use crate::error::{Error, Result, RouteError};
use crate::fault;
use crate::kernel::Netns;

/// How many routes Inlet makes. Who needs more has a plan for addresses, and can make its prefixes local in a few.
pub(crate) const MAX_ROUTES: usize = 10_000;

/// What became of the local routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// The prefixes that are local now by a route of ours, and were not before.
    pub added: Vec<Prefix>,
    /// The prefixes whose route of ours is gone.
    pub removed: Vec<Prefix>,
}

impl RouteChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// The routes that are to be there, and those that are.
pub(crate) struct Wanted {
    table: RouteTable,
    loopback: u32,
    add: Vec<Prefix>,
    remove: Vec<Prefix>,
}

impl Wanted {
    /// Works out which routes a ruleset needs, beside those that others made.
    ///
    /// Fails when one of them would take addresses that are in use elsewhere. Nothing is changed.
    pub(crate) fn by(ruleset: &Ruleset, netns: &Netns) -> Result<Self> {
        let table = RouteTable::of(netns)?;
        let all = table.list()?;
        let by = |ours: bool| local(&all).filter(move |route| route.is_ours() == ours).map(|route| route.prefix);
        let others: PrefixSet = by(false).collect();
        let steered = steered_prefixes(ruleset.rules());
        let needed: BTreeSet<Prefix> = steered.iter().filter(|prefix| !others.covers(prefix)).copied().collect();
        if needed.len() > MAX_ROUTES {
            return Err(Error::Route(RouteError::TooMany { count: needed.len(), max: MAX_ROUTES }));
        }
        let present: BTreeSet<Prefix> = by(true).collect();
        let add: Vec<Prefix> = needed.difference(&present).copied().collect();
        let remove = present.difference(&needed).copied().collect();
        let (loopback, is_up) = table.loopback()?;
        if !add.is_empty() && !is_up {
            return Err(Error::Route(RouteError::LoopbackDown { netns: netns.label().to_owned() }));
        }
        add.iter().try_for_each(|prefix| check(*prefix, &all))?;
        Ok(Self { table, loopback, add, remove })
    }

    /// Adds what is missing, and then removes what is not needed any more, so that no address is without a route between.
    pub(crate) fn carry_out(self) -> Result<RouteChanges> {
        for prefix in &self.add {
            self.table.add(*prefix, self.loopback)?;
            fault::point("routes:added");
        }
        remove(&self.table, &self.remove, self.loopback)?;
        Ok(RouteChanges { added: self.add, removed: self.remove })
    }
}

/// Removes all routes of ours.
pub(crate) fn remove_all(netns: &Netns) -> Result<RouteChanges> {
    let table = RouteTable::of(netns)?;
    let ours: Vec<Prefix> = local(&table.list()?).filter(|route| route.is_ours()).map(|route| route.prefix).collect();
    if !ours.is_empty() {
        remove(&table, &ours, table.loopback()?.0)?;
    }
    fault::point("routes:gone");
    Ok(RouteChanges { added: Vec::new(), removed: ours })
}

fn remove(table: &RouteTable, prefixes: &[Prefix], loopback: u32) -> Result<()> {
    for prefix in prefixes {
        table.remove(*prefix, loopback)?;
        fault::point("routes:removed");
    }
    Ok(())
}

/// The routes that make addresses local.
fn local(all: &[Route]) -> impl Iterator<Item = &Route> {
    all.iter().filter(|route| route.makes_local())
}

/// Whether the prefix can become local without cutting the host off from others.
fn check(prefix: Prefix, all: &[Route]) -> Result<()> {
    let outward = || all.iter().filter(|route| route.kind == "unicast" && route.interface.as_deref() != Some("lo"));
    let swallowed = outward().find(|route| route.prefix.len() > 0 && prefix.covers(&route.prefix));
    let through = |route: &&Route| route.gateways.iter().any(|gateway| prefix.contains(*gateway));
    let refused = |route: String| Err(Error::Route(RouteError::CutsOff { prefix, route }));
    match swallowed.or_else(|| outward().find(through)) {
        Some(route) => refused(route.to_string()),
        None if prefix.len() == 0 => refused("every other host".to_owned()),
        None => Ok(()),
    }
}
