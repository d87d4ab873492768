//! The two rulesets side by side, and which of their shapes are equal.

use rustc_hash::FxHashMap;

use crate::rule::{ServiceId, Verdict};
use crate::ruleset::{Entry, Ruleset, Shape, ShapeId, in_names};

/// A class of equal shapes: they match the same packets with the same verdict, whichever ruleset they belong to.
type Class = u32;

/// One of the rulesets.
pub(super) struct Side<'a> {
    pub(super) ruleset: &'a Ruleset,
    /// The class of each shape.
    classes: Vec<Class>,
}

/// Both.
pub(super) struct Sides<'a> {
    pub(super) previous: Side<'a>,
    pub(super) new: Side<'a>,
    /// For a service of the new ruleset, its number in the previous one.
    numbers: FxHashMap<ServiceId, ServiceId>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(previous: &'a Ruleset, new: &'a Ruleset) -> Self {
        let mut known = FxHashMap::default();
        let mut classes = |ruleset: &'a Ruleset| -> Vec<Class> {
            let class = |shape: &Shape| {
                let index = shape.iface.map(|id| ruleset.interface(id).index);
                let next = known.len() as Class;
                *known.entry((in_names(ruleset, shape), index)).or_insert(next)
            };
            ruleset.shapes.iter().map(class).collect()
        };
        let (before, after) = (classes(previous), classes(new));
        let by_name = |(id, service): (ServiceId, &crate::rule::Service)| {
            Some((id, previous.services.id(service.name.as_str())?))
        };
        let numbers = new.services.iter().filter_map(by_name).collect();
        let (previous, new) = (Side { ruleset: previous, classes: before }, Side { ruleset: new, classes: after });
        Self { previous, new, numbers }
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
            return self.previous.class(previous.shape()) != self.new.class(new.shape());
        }
        let shapes = |entries: &[E]| entries.iter().map(|entry| entry.shape()).collect::<Vec<_>>();
        self.changes(&shapes(previous), &shapes(new)).iter().any(|side| side.contains(&true))
    }

    /// For the shapes of one prefix in each ruleset, whether the other ruleset lacks them.
    pub(super) fn changes(&self, previous: &[ShapeId], new: &[ShapeId]) -> [Vec<bool>; 2] {
        let (previous, new) = (self.previous.classes_of(previous), self.new.classes_of(new));
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
}

impl<'a> Side<'a> {
    fn class(&self, shape: ShapeId) -> Class {
        self.classes[shape as usize]
    }

    fn classes_of(&self, shapes: &[ShapeId]) -> Vec<Class> {
        shapes.iter().map(|shape| self.class(*shape)).collect()
    }

    pub(super) fn shape(&self, id: ShapeId) -> &'a Shape {
        &self.ruleset.shapes[id as usize]
    }
}
