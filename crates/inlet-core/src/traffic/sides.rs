//! The two rulesets side by side: which of their shapes say the same.

use rustc_hash::FxHashMap;

use crate::rule::{ServiceId, Verdict};
use crate::ruleset::{Entry, Ruleset, Shape, ShapeId, in_names};

/// What a shape says: shapes of one class match the same packets with the same verdict, whichever ruleset they are of.
type Class = u32;

/// One of the rulesets.
pub(super) struct Side<'a> {
    pub(super) ruleset: &'a Ruleset,
    /// The class of each shape.
    classes: Vec<Class>,
}

/// Both.
pub(super) struct Sides<'a> {
    pub(super) old: Side<'a>,
    pub(super) new: Side<'a>,
    /// The number in the old ruleset of a service of the new one.
    former: FxHashMap<ServiceId, ServiceId>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(old: &'a Ruleset, new: &'a Ruleset) -> Self {
        let mut numbers = FxHashMap::default();
        let mut classes = |ruleset: &'a Ruleset| -> Vec<Class> {
            let class = |shape: &Shape| {
                let index = shape.iface.map(|id| ruleset.interface(id).index);
                let next = numbers.len() as Class;
                *numbers.entry((in_names(ruleset, shape), index)).or_insert(next)
            };
            ruleset.shapes.iter().map(class).collect()
        };
        let (before, after) = (classes(old), classes(new));
        let by_name =
            |(id, service): (ServiceId, &crate::rule::Service)| Some((id, old.services.id(service.name.as_str())?));
        let former = new.services.iter().filter_map(by_name).collect();
        let (old, new) = (Side { ruleset: old, classes: before }, Side { ruleset: new, classes: after });
        Self { old, new, former }
    }

    /// Whether two verdicts are the same answer.
    pub(super) fn same_answer(&self, old: Option<Verdict>, new: Option<Verdict>) -> bool {
        match (old, new) {
            (Some(Verdict::Service(old)), Some(Verdict::Service(new))) => self.former.get(&new) == Some(&old),
            (old, new) => old == new,
        }
    }

    /// Whether the rules of one prefix differ.
    pub(super) fn differ<E: Entry>(&self, old: &[E], new: &[E]) -> bool {
        if let ([old], [new]) = (old, new) {
            return self.old.class(old.shape()) != self.new.class(new.shape());
        }
        let shapes = |entries: &[E]| entries.iter().map(|entry| entry.shape()).collect::<Vec<_>>();
        self.changes(&shapes(old), &shapes(new)).iter().any(|side| side.contains(&true))
    }

    /// Which of the shapes of one prefix, in the one ruleset and in the other, the other one does not have.
    pub(super) fn changes(&self, old: &[ShapeId], new: &[ShapeId]) -> [Vec<bool>; 2] {
        let (old, new) = (self.old.classes_of(old), self.new.classes_of(new));
        let sorted = |classes: &[Class]| {
            let mut classes = classes.to_vec();
            classes.sort_unstable();
            classes
        };
        let only = |some: &[Class], others: &[Class]| -> Vec<bool> {
            let others = sorted(others);
            some.iter().map(|class| others.binary_search(class).is_err()).collect()
        };
        [only(&old, &new), only(&new, &old)]
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
