//! The local routes that Inlet keeps, so that packets for the prefixes of rules get to the host's sockets.
//!
//! Ours have a protocol number of their own. A route that somebody else made is never changed, and what one makes local
//! needs none of ours.

use std::collections::BTreeSet;

use inlet_core::{Prefix, PrefixSet, Ruleset, steered_prefixes};

use super::entry::{Reach, Route};
use super::in_use;
use super::table::{RouteTable, Said};
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
pub(crate) struct RoutePlan {
    table: RouteTable,
    loopback: u32,
    add: Vec<Prefix>,
    remove: Vec<Prefix>,
}

impl RoutePlan {
    /// Works out which routes a ruleset needs, beside those that others made.
    ///
    /// Fails when one of them would take addresses that are in use elsewhere. Nothing is changed.
    pub(crate) fn of(ruleset: &Ruleset, netns: &Netns) -> Result<Self> {
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
        if !add.is_empty() {
            cuts_nobody_off(&add, netns, &table)?;
        }
        Ok(Self { table, loopback, add, remove })
    }

    /// The same, without the prefixes that cannot be made local: why goes to `without`.
    pub(crate) fn of_what_can_be(ruleset: &Ruleset, netns: &Netns, without: &mut Vec<Error>) -> Result<Self> {
        let table = RouteTable::of(netns)?;
        let all = table.list()?;
        let (loopback, is_up) = table.loopback()?;
        let others: PrefixSet = local(&all).filter(|route| !route.is_ours()).map(|route| route.prefix).collect();
        let present: BTreeSet<Prefix> = local(&all).filter(|it| it.is_ours()).map(|it| it.prefix).collect();
        let steered = steered_prefixes(ruleset.rules());
        let needed: BTreeSet<Prefix> = steered.iter().filter(|prefix| !others.covers(prefix)).copied().collect();
        let mut add: Vec<Prefix> = Vec::new();
        for prefix in needed.difference(&present) {
            match check(*prefix, &all).and_then(|()| cuts_nobody_off(&[*prefix], netns, &table)) {
                Ok(()) => add.push(*prefix),
                Err(error) => without.push(error),
            }
        }
        if !add.is_empty() && !is_up {
            without.push(Error::Route(RouteError::LoopbackDown { netns: netns.label().to_owned() }));
            add.clear();
        }
        let room = MAX_ROUTES.saturating_sub(present.intersection(&needed).count());
        if add.len() > room {
            without.push(Error::Route(RouteError::TooMany { count: needed.len(), max: MAX_ROUTES }));
            add.truncate(room);
        }
        let remove = present.difference(&needed).copied().collect();
        Ok(Self { table, loopback, add, remove })
    }

    /// None of ours is needed any more.
    pub(crate) fn none(netns: &Netns) -> Result<Self> {
        let table = RouteTable::of(netns)?;
        let remove: Vec<Prefix> =
            local(&table.list()?).filter(|route| route.is_ours()).map(|route| route.prefix).collect();
        let loopback = if remove.is_empty() { 0 } else { table.loopback()?.0 };
        Ok(Self { table, loopback, add: Vec::new(), remove })
    }

    /// Takes away, before the new rules are in force, what no rule of them needs: while there still are rules for these
    /// addresses, no packet to them gets to another socket. What takes over a part of such a route is added first.
    pub(crate) fn before_commit(&self) -> Result<()> {
        for prefix in self.add.iter().filter(|prefix| self.is_early(prefix)) {
            self.table.add(*prefix, self.loopback)?;
            fault::point("routes:added");
        }
        let gone: Vec<Prefix> = self.remove.iter().filter(|prefix| !self.is_late(prefix)).copied().collect();
        remove(&self.table, &gone, self.loopback)
    }

    /// Makes addresses local once there are rules for them, and takes away the routes that these replace.
    pub(crate) fn after_commit(self) -> Result<RouteChanges> {
        for prefix in self.add.iter().filter(|prefix| !self.is_early(prefix)) {
            self.table.add(*prefix, self.loopback)?;
            fault::point("routes:added");
        }
        let gone: Vec<Prefix> = self.remove.iter().filter(|prefix| self.is_late(prefix)).copied().collect();
        remove(&self.table, &gone, self.loopback)?;
        Ok(RouteChanges { added: self.add, removed: self.remove })
    }

    /// Brings the routes to what they should be, where no rules change.
    pub(crate) fn carry_out(self) -> Result<RouteChanges> {
        self.before_commit()?;
        self.after_commit()
    }

    /// Whether a new route makes nothing local that is not so already.
    fn is_early(&self, new: &Prefix) -> bool {
        self.remove.iter().any(|old| old.covers(new))
    }

    /// Whether a route that goes is a part of a new one.
    fn is_late(&self, old: &Prefix) -> bool {
        self.add.iter().any(|new| new.covers(old))
    }
}

/// Removes all routes of ours.
pub(crate) fn remove_all(netns: &Netns) -> Result<RouteChanges> {
    let changes = RoutePlan::none(netns)?.carry_out();
    fault::point("routes:gone");
    changes
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

/// Fails when a prefix holds a host that this one talks to, and to which a route leads now.
fn cuts_nobody_off(add: &[Prefix], netns: &Netns, table: &RouteTable) -> Result<()> {
    let new: PrefixSet = add.iter().copied().collect();
    for host in in_use::hosts(netns, table)? {
        let inside = Prefix::holding(host.addr, if host.addr.is_ipv6() { 128 } else { 32 });
        let is_there = || table.reach(host.addr, None).map(|said| matches!(said, Said::Reach(Reach::Elsewhere(_))));
        if !inside.is_some_and(|addr| new.covers(&addr)) || !is_there()? {
            continue;
        }
        if let Some(prefix) = add.iter().find(|prefix| prefix.contains(host.addr)).copied() {
            return Err(Error::Route(RouteError::CutsOff { prefix, route: host.what }));
        }
    }
    Ok(())
}
