//! Making a ruleset, from nothing or from one that exists.

use rustc_hash::FxHashMap;

use super::conflict::conflicts;
use super::{Conflict, Entry, Entry4, Entry6, MAX_SHAPES, Named, Ruleset, Shape, ShapeId};
use crate::rule::{
    Description, IfaceId, Interface, InterfaceName, Listen, Match, OnMissing, Rule, Service, ServiceError, ServiceId,
    ServiceName, Services, Verdict,
};

/// A ruleset in the making: rules in any order, checked and put in canonical form by [`Builder::finish`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    services: Services,
    /// The services whose numbers are not for new services, because a program in force knows them.
    busy: Services,
    interfaces: Vec<Interface>,
    shapes: Vec<Shape>,
    /// How many of the shapes, from the first on, are sorted: those of the ruleset that this began with.
    sorted: usize,
    /// The numbers of the other shapes.
    numbers: FxHashMap<Shape, ShapeId>,
    v4: Vec<Entry4>,
    v6: Vec<Entry6>,
}

/// Why rules do not make a ruleset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Rules that match a packet with equal rank.
    #[error("rules {}{}; make one narrower or remove one", .0[0], others(.0))]
    Conflict(Vec<Conflict>),
    /// A rule whose source is of another family than its local prefix.
    #[error("rule for {local} from {source_prefix} can match nothing: one is IPv4 and the other IPv6")]
    Families {
        /// The local prefix.
        local: crate::rule::Prefix,
        /// The source prefix.
        source_prefix: crate::rule::Prefix,
    },
    /// More different combinations of ports, sources, interfaces and verdicts than fit.
    #[error("more than {MAX_SHAPES} different combinations of ports, source, interface and verdict; use fewer")]
    TooManyShapes,
    /// More interfaces than fit.
    #[error("more than 65535 interfaces in one ruleset; use fewer")]
    TooManyInterfaces,
    /// A service that rules still name.
    #[error("service {name} has {rules} rule{}; unbind them first (list them with: inlet rules)", if *rules == 1 { "" } else { "s" })]
    InUse {
        /// The service.
        name: ServiceName,
        /// How many rules name it.
        rules: u64,
    },
    /// Two services whose descriptions could claim the same socket.
    #[error(
        "services {first} and {second} could both claim a socket at {listen}; let them differ in address, uid, unit or cgroup"
    )]
    Overlap {
        /// The one.
        first: ServiceName,
        /// The other.
        second: ServiceName,
        /// What both say.
        listen: Listen,
    },
    /// A service that means all listeners wherever they are.
    #[error("service {0}: tcp:*:* means every listener of the host; say whose with a unit or a cgroup, or give ports")]
    Boundless(ServiceName),
    /// A change to the services that is not possible.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

fn others(conflicts: &[Conflict]) -> String {
    match conflicts.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} pairs more)", n - 1),
    }
}

impl Builder {
    /// A builder without rules and services.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder that holds all of `ruleset`.
    pub fn from_ruleset(ruleset: Ruleset) -> Self {
        let busy = ruleset.services.clone();
        let Ruleset { services, interfaces, shapes, v4, v6 } = ruleset;
        Self { services, busy, interfaces, sorted: shapes.len(), shapes, numbers: FxHashMap::default(), v4, v6 }
    }

    /// A builder without rules and services that gives services of `old` the number that they have there, and new
    /// services numbers that `old` does not have.
    pub fn successor_of(old: &Ruleset) -> Self {
        Self { busy: old.services.clone(), ..Self::default() }
    }

    /// A builder without rules that has all of these services, under their numbers.
    pub(crate) fn with_services(services: &Services) -> Self {
        Self { services: services.clone(), busy: services.clone(), ..Self::default() }
    }

    /// The services so far.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The number of the service of this name, which is made when there is none.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] when no number is left.
    pub fn service(&mut self, name: &ServiceName) -> Result<ServiceId, ServiceError> {
        if self.services.id(name.as_str()).is_none()
            && let Some(id) = self.busy.id(name.as_str())
        {
            self.services.insert(id, Service::new(name.clone()));
        }
        self.services.ensure(name, &self.busy)
    }

    /// Sets what happens to packets of a service without a live socket.
    pub fn set_on_missing(&mut self, id: ServiceId, on_missing: OnMissing) {
        self.services.set_on_missing(id, on_missing);
    }

    /// Says which sockets a service has, or with `None` that they are registered by hand.
    pub fn set_description(&mut self, id: ServiceId, description: Option<Description>) {
        self.services.set_description(id, description);
    }

    /// Removes a service that no rule names.
    ///
    /// # Errors
    /// [`BuildError::InUse`] when rules name it.
    pub fn remove_service(&mut self, id: ServiceId) -> Result<Option<Service>, BuildError> {
        let names = |shape: ShapeId| self.shapes[shape as usize].verdict == Verdict::Service(id);
        let v4 = self.v4.iter().filter(|entry| names(entry.shape())).count();
        let v6 = self.v6.iter().filter(|entry| names(entry.shape())).count();
        match (self.services.get(id), (v4 + v6) as u64) {
            (Some(service), rules @ 1..) => Err(BuildError::InUse { name: service.name.clone(), rules }),
            _ => Ok(self.services.remove(id)),
        }
    }

    /// The number of an interface in this ruleset. One that is new gets index 0 until
    /// [`Builder::resolve_interfaces`].
    ///
    /// # Errors
    /// [`BuildError::TooManyInterfaces`] when no number is left.
    pub fn interface_named(&mut self, name: &InterfaceName) -> Result<IfaceId, BuildError> {
        let at = match self.interfaces.iter().position(|known| known.name == *name) {
            Some(at) => at,
            None => {
                self.interfaces.push(Interface { name: name.clone(), index: 0 });
                self.interfaces.len() - 1
            }
        };
        u16::try_from(at).map(IfaceId::new).map_err(|_| BuildError::TooManyInterfaces)
    }

    /// The interfaces so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Sets the index of every interface anew.
    pub fn resolve_interfaces(&mut self, mut index: impl FnMut(&InterfaceName) -> u32) {
        self.interfaces.iter_mut().for_each(|interface| interface.index = index(&interface.name));
    }

    /// A rule with the names that its service and interface have here.
    pub fn named<'a>(&'a self, rule: &'a Rule) -> Named<'a> {
        Named::new(&self.services, &self.interfaces, rule)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`BuildError::Families`], [`BuildError::TooManyShapes`]. Conflicts are found by [`Builder::finish`].
    pub fn push(&mut self, rule: &Rule) -> Result<(), BuildError> {
        let Match { local, source, .. } = rule.matching;
        if let Some(source_prefix) = source.filter(|_| !rule.matching.same_family()) {
            return Err(BuildError::Families { local, source_prefix });
        }
        let shape = self.shape(Shape::of(rule))?;
        match local.is_v6() {
            false => self.v4.push(Entry4::new(local, shape)),
            true => self.v6.push(Entry6::new(local, shape)),
        }
        Ok(())
    }

    fn shape(&mut self, shape: Shape) -> Result<ShapeId, BuildError> {
        if let Ok(at) = self.shapes[..self.sorted].binary_search(&shape) {
            return Ok(at as ShapeId);
        }
        if let Some(id) = self.numbers.get(&shape) {
            return Ok(*id);
        }
        if self.shapes.len() == MAX_SHAPES {
            return Err(BuildError::TooManyShapes);
        }
        let id = self.shapes.len() as ShapeId;
        self.shapes.push(shape);
        self.numbers.insert(shape, id);
        Ok(id)
    }

    /// Removes the rule with exactly this match and gives its verdict.
    pub fn remove(&mut self, matching: &Match) -> Option<Verdict> {
        let wanted = Shape::of(&Rule { matching: *matching, verdict: Verdict::Pass });
        match matching.local.is_v6() {
            false => take(&mut self.v4, &self.shapes, matching, &wanted),
            true => take(&mut self.v6, &self.shapes, matching, &wanted),
        }
    }

    /// The ruleset in canonical form.
    ///
    /// # Errors
    /// [`BuildError::Conflict`] with all neighbouring pairs of rules that tie, [`BuildError::Overlap`].
    pub fn finish(mut self) -> Result<Ruleset, BuildError> {
        let boundless = |service: &&Service| service.description.as_ref().is_some_and(Description::is_boundless);
        if let Some(service) = self.services.iter().map(|(_, service)| service).find(boundless) {
            return Err(BuildError::Boundless(service.name.clone()));
        }
        if let Some((first, second, listen)) = self.services.overlap() {
            return Err(BuildError::Overlap { first: first.clone(), second: second.clone(), listen });
        }
        self.sort_interfaces();
        self.put_in_order();
        let Self { services, interfaces, shapes, v4, v6, .. } = self;
        let ruleset = Ruleset { services, interfaces, shapes, v4, v6 };
        match conflicts(&ruleset) {
            none if none.is_empty() => Ok(ruleset),
            found => Err(BuildError::Conflict(found)),
        }
    }

    /// Sorts the rules that were added in no order.
    pub(crate) fn put_in_order(&mut self) {
        self.sort_shapes();
        self.sorted = self.shapes.len();
        self.numbers.clear();
        self.v4.sort();
        self.v6.sort();
    }

    /// Adds the rules of another builder, which has no service that this one has not, under the same numbers. Both had
    /// better be in order: sorting two sorted halves is quick.
    ///
    /// # Errors
    /// [`BuildError::TooManyShapes`], [`BuildError::TooManyInterfaces`].
    pub(crate) fn absorb(&mut self, other: Self) -> Result<(), BuildError> {
        let interfaces = other.interfaces.iter().map(|interface| self.interface_named(&interface.name));
        let interfaces = interfaces.collect::<Result<Vec<IfaceId>, _>>()?;
        let shapes = other.shapes.into_iter().map(|shape| {
            let iface = shape.iface.map(|id| interfaces[id.index()]);
            self.shape(Shape { iface, ..shape })
        });
        let shapes = shapes.collect::<Result<Vec<ShapeId>, _>>()?;
        self.v4.extend(other.v4.iter().map(|entry| entry.with_shape(shapes[entry.shape() as usize])));
        self.v6.extend(other.v6.iter().map(|entry| entry.with_shape(shapes[entry.shape() as usize])));
        Ok(())
    }

    /// Sorts the interfaces that rules name by name and drops the others.
    fn sort_interfaces(&mut self) {
        let mut used = vec![false; self.interfaces.len()];
        self.named_shapes().iter().filter_map(|id| self.shapes[*id].iface).for_each(|id| used[id.index()] = true);
        let mut order: Vec<usize> = (0..used.len()).filter(|at| used[*at]).collect();
        order.sort_by(|a, b| self.interfaces[*a].name.cmp(&self.interfaces[*b].name));
        let mut new = vec![0_u16; used.len()];
        order.iter().zip(0..).for_each(|(at, number)| new[*at] = number);
        self.shapes.iter_mut().for_each(|shape| shape.iface = shape.iface.map(|id| IfaceId::new(new[id.index()])));
        self.interfaces = order.iter().map(|at| self.interfaces[*at].clone()).collect();
    }

    /// The places of the shapes that rules have. A rule that was removed leaves its own behind.
    fn named_shapes(&self) -> Vec<usize> {
        let mut named = vec![false; self.shapes.len()];
        self.v4.iter().for_each(|entry| named[entry.shape() as usize] = true);
        self.v6.iter().for_each(|entry| named[entry.shape() as usize] = true);
        (0..named.len()).filter(|at| named[*at]).collect()
    }

    /// Sorts the shapes that rules have, drops the others, and gives the entries the new numbers.
    fn sort_shapes(&mut self) {
        let mut order = self.named_shapes();
        order.sort_by_key(|at| self.shapes[*at]);
        if order.len() == self.shapes.len() && order.is_sorted() {
            return;
        }
        let mut new = vec![0; self.shapes.len()];
        order.iter().zip(0..).for_each(|(at, number)| new[*at] = number);
        renumber(&mut self.v4, &new);
        renumber(&mut self.v6, &new);
        self.shapes = order.iter().map(|at| self.shapes[*at]).collect();
    }
}

fn renumber<E: Entry>(entries: &mut [E], new: &[ShapeId]) {
    entries.iter_mut().for_each(|entry| *entry = entry.with_shape(new[entry.shape() as usize]));
}

fn take<E: Entry>(entries: &mut Vec<E>, shapes: &[Shape], matching: &Match, wanted: &Shape) -> Option<Verdict> {
    let probe = E::new(matching.local, 0);
    let is_it = |entry: &E| entry.same_local(probe) && shapes[entry.shape() as usize].same_match(wanted);
    let at = entries.iter().position(is_it)?;
    let verdict = shapes[entries[at].shape() as usize].verdict;
    entries.remove(at);
    Some(verdict)
}
