//! The one model of what the kernel does with a packet to an address: the policy routing rules in their order, and of each
//! table the route to the longest prefix. Explanations, checks and plans ask it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use inlet_core::{Family, Prefix};

use super::entry::{DEFAULT_TABLE, LOCAL_TABLE, MAIN_TABLE, Reach, Route};
use super::policy::{Action, Arriving, Fit, Policy};

/// The rules and routes of a namespace.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) v4: Side,
    pub(super) v6: Side,
}

/// Those of one family.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) policies: Vec<Policy>,
    tables: HashMap<u32, Table>,
    /// The local and the main table in one. The kernel has them so for IPv4 until the namespace gets its first rule of policy
    /// routing: the longest prefix of both counts.
    merged: Option<Table>,
}

/// The routes of a table.
#[derive(Debug, Default)]
struct Table {
    /// The lengths that prefixes have, from the longest on.
    lens: Vec<u8>,
    routes: HashMap<Prefix, Vec<Route>>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) reach: Reach,
    /// What would decide otherwise for packets that have what is not known of this one.
    pub(crate) unless: Vec<Unless>,
}

/// A condition under which something else becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unless {
    /// The policy routing rule or the route, as ip-rule(8) and ip-route(8) write them.
    pub by: String,
    /// What would become of the packet; `None` where that cannot be told.
    pub reach: Option<Reach>,
}

impl Model {
    pub(super) fn new(routes: Vec<Route>, v4: Vec<Policy>, v6: Vec<Policy>) -> Self {
        let (of_v6, of_v4) = routes.into_iter().partition(|route| route.prefix.is_v6());
        Self { v4: Side::new(of_v4, v4), v6: Side::new(of_v6, v6) }
    }

    pub(super) fn side(&self, family: Family) -> &Side {
        if family == Family::V6 { &self.v6 } else { &self.v4 }
    }

    /// What becomes of a packet that comes in.
    pub(crate) fn decide(&self, packet: &Arriving) -> Decision {
        let side = if packet.addr.is_ipv6() { &self.v6 } else { &self.v4 };
        match (packet.addr.is_multicast(), &side.merged) {
            (true, _) => Decision { reach: Reach::Several, unless: Vec::new() },
            (false, Some(merged)) => side.decide_merged(merged, packet),
            (false, None) => side.decide(packet),
        }
    }

    /// The policy routing rules of a family beside those that every namespace has.
    pub(crate) fn policies(&self, family: Family) -> Vec<String> {
        self.side(family).policies.iter().filter(|it| !it.is_usual()).map(|it| it.text.clone()).collect()
    }

    /// All routes, in no order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        [&self.v4, &self.v6].into_iter().flat_map(Side::routes)
    }

    /// Rules and routes of a family with something that Inlet does not know and so leaves out of account.
    pub(crate) fn unknown(&self, family: Family) -> Vec<String> {
        let side = self.side(family);
        let numbers = |all: &[u16]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rules = side.policies.iter().filter(|it| !it.unknown.is_empty());
        let rules =
            rules.map(|it| format!("attribute {} of the policy routing rule `{}`", numbers(&it.unknown), it.text));
        let routes = side.routes().filter(|it| !it.unknown.is_empty());
        rules.chain(routes.map(|it| format!("attribute {} of the route `{it}`", numbers(&it.unknown)))).collect()
    }
}

impl Side {
    fn new(routes: Vec<Route>, policies: Vec<Policy>) -> Self {
        let mut tables: HashMap<u32, Vec<Route>> = HashMap::new();
        for route in routes {
            tables.entry(route.table).or_default().push(route);
        }
        let tables = tables.into_iter().map(|(number, routes)| (number, Table::of(routes))).collect();
        Self { policies, tables, merged: None }
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        self.tables.values().flat_map(|table| table.routes.values().flatten())
    }

    /// Addresses of which one table says other than both in one would, if there are such.
    pub(super) fn telling(&self) -> Vec<IpAddr> {
        let (Some(local), Some(main)) = (self.tables.get(&LOCAL_TABLE), self.tables.get(&MAIN_TABLE)) else {
            return Vec::new();
        };
        let inside =
            |prefix: &Prefix| {
                local.lens.iter().filter(|len| **len <= prefix.len()).any(|len| {
                    Prefix::holding(prefix.addr(), *len).is_some_and(|wider| local.routes.contains_key(&wider))
                })
            };
        let throws = local.routes.iter().filter(|(_, routes)| routes.iter().any(|route| route.kind == "throw"));
        let more = main.routes.keys().filter(|prefix| inside(prefix));
        throws.map(|(prefix, _)| prefix).chain(more).map(Prefix::addr).collect()
    }

    /// Takes the local and the main table for one.
    pub(super) fn merge(&mut self) {
        let of = |number: u32| self.tables.get(&number).into_iter().flat_map(|table| table.routes.values().flatten());
        self.merged = Some(Table::of(of(LOCAL_TABLE).chain(of(MAIN_TABLE)).cloned().collect()));
    }

    /// Takes them for two again.
    pub(super) fn part(&mut self) {
        self.merged = None;
    }

    fn decide_merged(&self, merged: &Table, packet: &Arriving) -> Decision {
        let mut unless = Vec::new();
        let default = self.tables.get(&DEFAULT_TABLE);
        let found = merged.find(packet, 0, &mut unless).flatten();
        let found = found.or_else(|| default.and_then(|table| table.find(packet, 0, &mut unless)).flatten());
        Decision::new(found, unless)
    }

    fn decide(&self, packet: &Arriving) -> Decision {
        let (mut unless, mut from) = (Vec::new(), 0);
        for policy in &self.policies {
            let fit = policy.fits(packet);
            if policy.priority < from || fit == Fit::No {
                continue;
            }
            let mut inner = Vec::new();
            let found = match (policy.action, fit) {
                (Action::Goto(to), Fit::Yes) => {
                    from = to;
                    continue;
                }
                // Where it goes on from there is another story.
                (Action::Goto(_), _) => {
                    unless.push(Unless { by: policy.text.clone(), reach: None });
                    continue;
                }
                (Action::Nop, _) => continue,
                (Action::Drop, _) => Some(Reach::Dropped(format!("the policy routing rule: {}", policy.text))),
                (Action::Table(number), _) => self.ask(number, policy, packet, &mut inner),
                (Action::Vrf, _) => match &packet.interface {
                    Some(interface) => {
                        interface.vrf.as_ref().and_then(|(_, number)| self.ask(*number, policy, packet, &mut inner))
                    }
                    None => {
                        unless.extend(self.vrf_answers(policy, packet));
                        continue;
                    }
                },
            };
            unless.extend(inner);
            match (found, fit) {
                (Some(reach), Fit::Yes) => return Decision::new(Some(reach), unless),
                (Some(reach), _) => unless.push(Unless { by: policy.text.clone(), reach: Some(reach) }),
                (None, _) => {}
            }
        }
        Decision::new(None, unless)
    }

    fn ask(&self, table: u32, policy: &Policy, packet: &Arriving, unless: &mut Vec<Unless>) -> Option<Reach> {
        let shortest = policy.suppressed.map_or(0, |len| u8::try_from(len + 1).unwrap_or(u8::MAX));
        self.tables.get(&table)?.find(packet, shortest, unless).flatten()
    }

    /// What the tables of VRFs say, of which one is asked where a packet comes in by a VRF.
    fn vrf_answers(&self, policy: &Policy, packet: &Arriving) -> Vec<Unless> {
        let known: BTreeSet<u32> = self.tables.keys().copied().collect();
        let named = |number: &u32| [LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE].contains(number);
        let others = known.into_iter().filter(|number| !named(number));
        let found = others.filter_map(|number| self.ask(number, policy, packet, &mut Vec::new()));
        found.map(|reach| Unless { by: policy.text.clone(), reach: Some(reach) }).collect()
    }
}

impl Table {
    fn of(all: Vec<Route>) -> Self {
        let mut routes: HashMap<Prefix, Vec<Route>> = HashMap::new();
        for route in all.into_iter().filter(|route| !route.dead) {
            routes.entry(route.prefix).or_default().push(route);
        }
        for same in routes.values_mut() {
            // The order in which the kernel tries them.
            same.sort_by_key(|it| {
                (u32::MAX - it.table, u8::MAX - it.tos, it.source.map_or(0, |from| from.len()), it.metric)
            });
        }
        let lens: BTreeSet<u8> = routes.keys().map(Prefix::len).collect();
        Self { lens: lens.into_iter().rev().collect(), routes }
    }

    /// What the table says of a packet; `Some(None)`: that the next rule decides. Prefixes shorter than `shortest` do not count.
    fn find(&self, packet: &Arriving, shortest: u8, unless: &mut Vec<Unless>) -> Option<Option<Reach>> {
        for len in self.lens.iter().filter(|len| **len >= shortest) {
            let Some(same) = Prefix::holding(packet.addr, *len).and_then(|it| self.routes.get(&it)) else { continue };
            for route in same {
                match fits(route, packet) {
                    Fit::Yes => return Some(Reach::by(route)),
                    Fit::No => {}
                    Fit::Unknown => unless.push(Unless { by: route.to_string(), reach: Reach::by(route) }),
                }
            }
        }
        None
    }
}

/// Whether a route is for a packet to its prefix.
fn fits(route: &Route, packet: &Arriving) -> Fit {
    let is_v6 = route.prefix.is_v6();
    match (route.tos, &route.source, packet.source) {
        // IPv6 has the field, and does not look at it.
        (1.., ..) if !is_v6 => Fit::Unknown,
        (_, Some(prefix), Some(source)) if !prefix.contains(source) => Fit::No,
        (_, Some(prefix), None) if prefix.len() > 0 => Fit::Unknown,
        _ => Fit::Yes,
    }
}

impl Decision {
    /// What would decide the same way is no condition.
    fn new(reach: Option<Reach>, mut unless: Vec<Unless>) -> Self {
        let reach = reach.unwrap_or(Reach::Nowhere);
        unless.retain(|it| it.reach.as_ref().is_none_or(|other| other.is_local() != reach.is_local()));
        Self { reach, unless }
    }

    /// Whether the address is local to some packets at least.
    pub(crate) fn may_be_local(&self) -> bool {
        let local = |reach: &Reach| matches!(reach, Reach::Local(_) | Reach::Anycast(_));
        local(&self.reach) || self.unless.iter().any(|it| it.reach.as_ref().is_none_or(local))
    }
}
