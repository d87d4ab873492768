//! The two rulesets side by side, and which of their shapes are equal.

use std::cell::{Cell, RefCell};

use rustc_hash::FxHashMap;

use crate::rule::{ServiceId, Verdict};
use crate::ruleset::{Entry, InNames, Ruleset, Shape, ShapeId, in_names};

/// A class of equal shapes: they match the same packets with the same verdict, whichever ruleset they belong to.
type Class = u32;

/// A shape of which nobody asked yet.
const UNKNOWN: Class = Class::MAX;

/// One of the rulesets.
pub(super) struct Side<'a> {
    pub(super) ruleset: &'a Ruleset,
    /// The class of each shape, found when it is asked for: a small change looks at few shapes of a large ruleset.
    classes: Vec<Cell<Class>>,
}

/// Both.
pub(super) struct Sides<'a> {
    pub(super) previous: Side<'a>,
    pub(super) new: Side<'a>,
    /// The classes of the shapes that were asked for, each with the kernel's index of the interface.
    known: RefCell<FxHashMap<(InNames<'a>, Option<u32>), Class>>,
    /// For a service of the new ruleset, its number in the previous one.
    numbers: FxHashMap<ServiceId, ServiceId>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(previous: &'a Ruleset, new: &'a Ruleset) -> Self {
        let by_name = |(id, service): (ServiceId, &crate::rule::Service)| {
            Some((id, previous.services.id(service.name.as_str())?))
        };
        let numbers = new.services.iter().filter_map(by_name).collect();
        Self { previous: Side::new(previous), new: Side::new(new), known: RefCell::default(), numbers }
    }

    /// Whether two verdicts are the same answer.
    pub(super) fn same_answer(&self, previous: Option<Verdict>, new: Option<Verdict>) -> bool {
        match (previous, new) {
            (Some(Verdict::Service(previous)), Some(Verdict::Service(new))) => {
                self.numbers.get(&new) == Some(&previous)
            }
            (previous, new) => previous == new,
        }
    }

    /// Whether the rules of one prefix differ.
    pub(super) fn differ<E: Entry>(&self, previous: &[E], new: &[E]) -> bool {
        if let ([previous], [new]) = (previous, new) {
            return self.class(&self.previous, previous.shape()) != self.class(&self.new, new.shape());
        }
        let shapes = |entries: &[E]| entries.iter().map(|entry| entry.shape()).collect::<Vec<_>>();
        self.changes(&shapes(previous), &shapes(new)).iter().any(|side| side.contains(&true))
    }

    /// For the shapes of one prefix in each ruleset, whether the other ruleset lacks them.
    pub(super) fn changes(&self, previous: &[ShapeId], new: &[ShapeId]) -> [Vec<bool>; 2] {
        let classes_of = |side, shapes: &[ShapeId]| shapes.iter().map(|it| self.class(side, *it)).collect::<Vec<_>>();
        let (previous, new) = (classes_of(&self.previous, previous), classes_of(&self.new, new));
        let sorted = |classes: &[Class]| {
            let mut classes = classes.to_vec();
            classes.sort_unstable();
            classes
        };
        let only = |some: &[Class], others: &[Class]| -> Vec<bool> {
            let others = sorted(others);
            some.iter().map(|class| others.binary_search(class).is_err()).collect()
        };
        [only(&previous, &new), only(&new, &previous)]
    }

    fn class(&self, side: &Side<'a>, id: ShapeId) -> Class {
        let class = &side.classes[id as usize];
        if class.get() == UNKNOWN {
            let (ruleset, shape) = (side.ruleset, side.shape(id));
            let index = shape.iface.map(|id| ruleset.interface(id).index);
            let mut known = self.known.borrow_mut();
            let next = known.len() as Class;
            class.set(*known.entry((in_names(ruleset, shape), index)).or_insert(next));
        }
        class.get()
    }
}

impl<'a> Side<'a> {
    fn new(ruleset: &'a Ruleset) -> Self {
        Self { ruleset, classes: vec![Cell::new(UNKNOWN); ruleset.shapes.len()] }
    }

    pub(super) fn shape(&self, id: ShapeId) -> &'a Shape {
        &self.ruleset.shapes[id as usize]
    }
}
