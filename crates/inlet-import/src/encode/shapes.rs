//! What one group of local prefixes needs: for which ports, sources and interfaces which verdict, given what shorter
//! prefixes
//! say. A narrower range of ports is asked first, then a longer source, then an interface, then a mark.

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::Family;

use super::Choice;
use super::aggregate::{Labels, NONE, aggregate};

/// By interface and mark, the first of each for all others; those of one interface are next to each other.
pub(super) type ByIface = Vec<Choice>;
/// From each first number on, the number of a function.
pub(super) type Steps = Vec<(u128, u32)>;

/// The functions of one family and protocol, as far as verdicts go.
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub(super) ifaces: Vec<ByIface>,
    pub(super) sources: Vec<Steps>,
    pub(super) ports: Vec<Steps>,
    /// For each mark the numbers of those that hold it too, the one of most bits first; that of all others comes first.
    pub(super) marks: Vec<Vec<usize>>,
}

/// A rule but for its local prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape {
    pub(super) ports: (u16, u16),
    /// `None`: any.
    pub(super) source: Option<(u128, u8)>,
    /// The number of an interface and a mark, as in [`ByIface`]; 0 of either: any.
    pub(super) iface: usize,
    pub(super) choice: Choice,
}

const ALL: (u16, u16) = (1, u16::MAX);

/// Ports that share both functions: the one to be had, and what is there without.
struct Segment {
    ports: (u16, u16),
    own: u32,
    around: u32,
}

impl Functions {
    /// The rules that make one function of ports out of another.
    pub(super) fn shapes(&self, family: Family, own: u32, around: u32) -> Vec<Shape> {
        let segments = self.segments(own, around);
        let mut best = self.without_base(family, &segments);
        for base in self.bases(&segments) {
            let shapes = self.with_base(family, &segments, base);
            let width = |segment: &Segment| {
                if segment.own == base { u32::from(segment.ports.1 - segment.ports.0) + 1 } else { 0 }
            };
            let is_usual = segments.iter().map(width).sum::<u32>() > u32::from(u16::MAX / 2);
            if shapes.len() < best.len() || shapes.len() == best.len() && is_usual && !shapes.is_empty() {
                best = shapes;
            }
        }
        best
    }

    fn segments(&self, own: u32, around: u32) -> Vec<Segment> {
        let pairs = refined(&self.ports[own as usize], &self.ports[around as usize]);
        let mut segments: Vec<Segment> = Vec::new();
        for (number, (first, own, around)) in pairs.iter().enumerate() {
            let last = pairs.get(number + 1).map_or(u16::MAX, |next| next.0 as u16 - 1);
            match segments.last_mut().filter(|before| before.own == *own && before.around == *around) {
                Some(before) => before.ports.1 = last,
                None => segments.push(Segment { ports: (*first as u16, last), own: *own, around: *around }),
            }
        }
        segments
    }

    fn without_base(&self, family: Family, segments: &[Segment]) -> Vec<Shape> {
        let shapes = |segment: &Segment| self.of_sources(family, segment.ports, segment.own, Some(segment.around));
        segments.iter().flat_map(shapes).collect()
    }

    /// The functions of sources that most ports have.
    fn bases(&self, segments: &[Segment]) -> Vec<u32> {
        let mut count: BTreeMap<u32, usize> = BTreeMap::new();
        segments.iter().for_each(|segment| *count.entry(segment.own).or_default() += 1);
        let mut bases: Vec<(usize, u32)> = count.into_iter().map(|(own, count)| (count, own)).collect();
        bases.sort_unstable_by(|a, b| b.cmp(a));
        bases.into_iter().take(3).map(|(_, own)| own).collect()
    }

    /// One function for all ports, and others where it is not right.
    fn with_base(&self, family: Family, segments: &[Segment], base: u32) -> Vec<Shape> {
        let around = segments[0].around;
        let uniform = segments.iter().all(|segment| segment.around == around);
        let mut shapes = self.of_sources(family, ALL, base, uniform.then_some(around));
        for segment in segments.iter().filter(|segment| segment.own != base) {
            shapes.extend(self.of_sources(family, segment.ports, segment.own, Some(base)));
        }
        shapes
    }

    /// The rules for one range of ports; with `around` unknown all is said.
    fn of_sources(&self, family: Family, ports: (u16, u16), own: u32, around: Option<u32>) -> Vec<Shape> {
        if around == Some(own) {
            return Vec::new();
        }
        let own = &self.sources[own as usize];
        let around = around.map(|around| self.sources[around as usize].as_slice());
        let everywhere = around.and_then(|around| if let [(_, one)] = around { Some(*one) } else { None });
        let pairs: Vec<(u128, u32, Option<u32>)> = match around {
            Some(around) => {
                refined(own, around).into_iter().map(|(first, own, around)| (first, own, Some(around))).collect()
            }
            None => own.iter().map(|(first, own)| (*first, *own, None)).collect(),
        };
        let labels = |own: u32, around: Option<u32>| match around == Some(own) {
            true => Labels::Of(vec![own, NONE]),
            false => Labels::Of(vec![own]),
        };
        let ranges: Vec<_> = pairs.iter().map(|(first, own, around)| (*first, labels(*own, *around))).collect();
        let mut shapes = Vec::new();
        for found in aggregate(&ranges, family.bits()) {
            let around = if found.around == NONE { everywhere } else { Some(found.around) };
            let around = around.map(|around| self.ifaces[around as usize].as_slice());
            let source = Some((found.first, found.len)).filter(|_| found.len > 0);
            for (iface, choice) in by_iface(&self.marks, &self.ifaces[found.label as usize], around) {
                shapes.push(Shape { ports, source, iface, choice });
            }
        }
        shapes
    }
}

/// Interfaces and marks with a rule of their own, and 0 for a rule for all.
fn by_iface(marks: &[Vec<usize>], own: &[Choice], around: Option<&[Choice]>) -> Vec<(usize, Choice)> {
    let with_usual = differing(marks, own, Some(own[0]), &|_| own[0]);
    match around.filter(|around| around[0] == own[0]) {
        Some(around) => {
            let without = differing(marks, own, None, &|number| around[number]);
            if without.len() <= with_usual.len() { without } else { with_usual }
        }
        None => with_usual,
    }
}

/// The rules that make one function out of another: a rule for all, if wanted, then those that differ. A rule with an
/// interface goes before one with a mark only, and one with both before either; of several marks that of most bits.
fn differing(
    marks: &[Vec<usize>],
    own: &[Choice],
    all: Option<Choice>,
    usual: &dyn Fn(usize) -> Choice,
) -> Vec<(usize, Choice)> {
    let mut rules: Vec<(usize, Choice)> = all.map(|all| (0, all)).into_iter().collect();
    let mut has_rule = vec![false; own.len()];
    for number in 1..own.len() {
        let (first, mark) = (number / marks.len() * marks.len(), number % marks.len());
        // What decides without a rule of its own, in the order in which it would.
        let same_iface = marks[mark].iter().map(|mark| first + mark).chain((mark > 0).then_some(first));
        let any_iface = [mark].into_iter().chain(marks[mark].iter().copied());
        let mut others = same_iface.chain(any_iface.filter(|mark| *mark > 0 && first > 0));
        let around = others.find(|other| *other > 0 && has_rule[*other]).map_or_else(|| usual(number), |it| own[it]);
        if own[number] != around {
            has_rule[number] = true;
            rules.push((number, own[number]));
        }
    }
    rules
}

/// Two functions as one, cut where either is.
fn refined(a: &[(u128, u32)], b: &[(u128, u32)]) -> Vec<(u128, u32, u32)> {
    let starts: BTreeSet<u128> = a.iter().chain(b).map(|(first, _)| *first).collect();
    let at = |steps: &[(u128, u32)], number: u128| steps[steps.partition_point(|step| step.0 <= number) - 1].1;
    starts.into_iter().map(|first| (first, at(a, first), at(b, first))).collect()
}
