//! Makes a ruleset, from nothing or from another ruleset.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::build_error::BuildError;
use super::conflict::conflicts;
use super::{Entry, Entry4, Entry6, MAX_SHAPES, Named, Ruleset, Shape, ShapeId};
use crate::rule::{
    Description, Family, IfaceId, Interface, InterfaceName, Match, Rule, Service, ServiceError, ServiceId, ServiceName,
    Services, Verdict,
};

/// The most rules of a ruleset, sixteen times what a large one has: few lines can mean more than fits in memory.
pub(super) const MAX_RULES: usize = 1 << 24;

/// A ruleset under construction. It takes rules in any order; [`Builder::finish`] checks them and puts them in
/// canonical form.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(super) services: Services,
    /// Services whose numbers a new service must not get, since a program in force knows them.
    busy: Services,
    /// Numbers that a new service gets last.
    reserved: BTreeSet<ServiceId>,
    interfaces: Vec<Interface>,
    shapes: Vec<Shape>,
    /// How many shapes at the front are sorted: those of the ruleset that this builder started from.
    sorted: usize,
    /// The numbers of the other shapes.
    numbers: FxHashMap<Shape, ShapeId>,
    v4: Vec<Entry4>,
    v6: Vec<Entry6>,
}

impl Builder {
    /// A builder without rules and services.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with everything that `ruleset` has.
    pub fn from_ruleset(ruleset: Ruleset) -> Self {
        let busy = ruleset.services.clone();
        let Ruleset { services, interfaces, shapes, v4, v6 } = ruleset;
        let sorted = shapes.len();
        Self { services, busy, interfaces, shapes, sorted, v4, v6, ..Self::default() }
    }

    /// A builder without rules and services. Services that `previous` has keep their numbers, and new services get
    /// numbers that `previous` does not use.
    pub fn successor_of(previous: &Ruleset) -> Self {
        Self { busy: previous.services.clone(), ..Self::default() }
    }

    /// Gives the numbers of these services to no new one as long as there are others: one can still go back to a
    /// ruleset that has them, with their sockets.
    pub fn reserve(&mut self, services: &Services) {
        self.reserved.extend(services.iter().map(|(id, _)| id));
    }

    /// A builder without rules that has these services, with their numbers.
    pub(crate) fn with_services(services: &Services) -> Self {
        let mut builder = Self { services: services.clone(), busy: services.clone(), ..Self::default() };
        services.devices().for_each(|name| _ = builder.needs(name));
        builder
    }

    /// The offset of the interface of this name, which rules or descriptions name.
    fn needs(&mut self, name: InterfaceName) -> usize {
        self.interfaces.iter().position(|known| known.name == name).unwrap_or_else(|| {
            self.interfaces.push(Interface { name, index: 0 });
            self.interfaces.len() - 1
        })
    }

    /// The services so far.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The number of the service of this name. A service that does not exist is created.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] when no number is left.
    pub fn service(&mut self, name: &ServiceName) -> Result<ServiceId, ServiceError> {
        if self.services.id(name.as_str()).is_none()
            && let Some(id) = self.busy.id(name.as_str())
        {
            self.services.insert(id, Service::new(name.clone()));
        }
        self.services.ensure(name, &self.busy, &self.reserved)
    }

    /// Sets which sockets belong to a service. With `None` they are registered by hand. Interfaces that it names are
    /// interfaces of the ruleset, as those of rules.
    pub fn set_description(&mut self, id: ServiceId, description: Option<Description>) {
        description.iter().flat_map(Description::devices).for_each(|name| _ = self.needs(name));
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

    /// The number of an interface in this ruleset. A new interface has kernel index 0 until
    /// [`Builder::resolve_interfaces`] sets it.
    ///
    /// # Errors
    /// [`BuildError::TooManyInterfaces`] when no number is left.
    pub fn interface_named(&mut self, name: &InterfaceName) -> Result<IfaceId, BuildError> {
        let at = self.needs(*name);
        u16::try_from(at).map(IfaceId::new).map_err(|_| BuildError::TooManyInterfaces)
    }

    /// The interfaces so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Sets the kernel's index of every interface.
    pub fn resolve_interfaces(&mut self, mut index: impl FnMut(&InterfaceName) -> u32) {
        self.interfaces.iter_mut().for_each(|interface| interface.index = index(&interface.name));
    }

    /// The rule with the names of its service and interface.
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
        if self.v4.len() + self.v6.len() >= MAX_RULES {
            return Err(BuildError::TooManyRules);
        }
        let shape = self.shape(Shape::of(rule))?;
        match local.family() {
            Family::V4 => self.v4.push(Entry4::new(local, shape)),
            Family::V6 => self.v6.push(Entry6::new(local, shape)),
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
        match matching.local.family() {
            Family::V4 => take(&mut self.v4, &self.shapes, matching, &wanted),
            Family::V6 => take(&mut self.v6, &self.shapes, matching, &wanted),
        }
    }

    /// A part of a ruleset in canonical form: what takes all rules to know is not checked.
    pub(crate) fn finish_part(mut self) -> Result<Ruleset, BuildError> {
        for (_, service) in self.services.iter() {
            match &service.description {
                Some(it) if it.is_boundless() => return Err(BuildError::Boundless(service.name.clone())),
                Some(it) if it.is_own_for_all() => return Err(BuildError::OwnForAll(service.name.clone())),
                Some(it) if it.is_vague() => return Err(BuildError::Vague(service.name.clone())),
                Some(it) if it.is_plain_for_all() => return Err(BuildError::PlainForAll(service.name.clone())),
                _ => {}
            }
        }
        self.services.check_grants()?;
        if let Some((first, second, listen)) = self.services.overlap() {
            return Err(BuildError::Overlap { first: first.clone(), second: second.clone(), listen });
        }
        self.sort_interfaces()?;
        self.put_in_order();
        let Self { services, interfaces, shapes, v4, v6, .. } = self;
        let ruleset = Ruleset { services, interfaces, shapes, v4, v6 };
        match conflicts(&ruleset) {
            none if none.is_empty() => Ok(ruleset),
            found => Err(BuildError::Conflict(found)),
        }
    }

    /// Sorts shapes and rules.
    pub(crate) fn put_in_order(&mut self) {
        self.sort_shapes();
        self.sorted = self.shapes.len();
        self.numbers.clear();
        self.v4.sort();
        self.v6.sort();
    }

    /// Adds the rules of another builder. Services of the other builder must exist here under the same numbers. It is
    /// fast when both builders are sorted.
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

    /// Drops interfaces that nothing names, and sorts the others by name.
    fn sort_interfaces(&mut self) -> Result<(), BuildError> {
        let described: BTreeSet<InterfaceName> = self.services.devices().collect();
        let mut used: Vec<bool> = self.interfaces.iter().map(|it| described.contains(&it.name)).collect();
        self.named_shapes().iter().filter_map(|id| self.shapes[*id].iface).for_each(|id| used[id.index()] = true);
        let mut order: Vec<usize> = (0..used.len()).filter(|at| used[*at]).collect();
        order.sort_by(|a, b| self.interfaces[*a].name.cmp(&self.interfaces[*b].name));
        let mut new = vec![0_u16; used.len()];
        for (number, at) in order.iter().enumerate() {
            new[*at] = u16::try_from(number).map_err(|_| BuildError::TooManyInterfaces)?;
        }
        self.shapes.iter_mut().for_each(|shape| shape.iface = shape.iface.map(|id| IfaceId::new(new[id.index()])));
        self.interfaces = order.iter().map(|at| self.interfaces[*at].clone()).collect();
        Ok(())
    }

    /// The offsets of the shapes that rules use. A rule that was removed leaves its shape behind.
    fn named_shapes(&self) -> Vec<usize> {
        let mut named = vec![false; self.shapes.len()];
        self.v4.iter().for_each(|entry| named[entry.shape() as usize] = true);
        self.v6.iter().for_each(|entry| named[entry.shape() as usize] = true);
        (0..named.len()).filter(|at| named[*at]).collect()
    }

    /// Drops shapes that no rule uses, sorts the others, and gives the entries the new numbers.
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
