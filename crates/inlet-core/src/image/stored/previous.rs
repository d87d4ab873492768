//! The previous ruleset, stored beside the image of the one that replaced it.
//!
//! It is stored as changes to the ruleset in force: rules to drop and rules to restore. When that is more, the previous
//! ruleset is stored whole. So it takes memory for the change, and never more than a few bytes for each previous rule.
//!
//! The words are the format, 1 when it is stored whole, the length of the head, and the counts of IPv4 and IPv6 rules
//! to restore and to drop. Then comes the head (services, interfaces and shapes as in the source part of an image).
//!
//! Then come the rules in bytes: the distance from the address before, the length, the shape. A number takes 7 bits of
//! each byte, the lowest first; the bit above says that more follow. The shapes of dropped rules are those of the
//! ruleset in force.

use super::ruleset;
use super::valid::is_valid;
use super::words::{SourceError, Words};
use crate::rule::{Family, Match, Prefix, Rule, ServiceId, Services, Verdict};
use crate::ruleset::{BuildError, Builder, Change, Entry, Entry4, Entry6, MAX_SHAPES, Plan, Ruleset, Shape, ShapeId};

const FORMAT: u32 = 1;
/// The format when a rule to restore has a mark, which programs that know no marks must not read.
const FORMAT_WITH_MARKS: u32 = 2;
const COUNTS: usize = 7;
const DAMAGED: SourceError = SourceError::Damaged("previous rules");

/// The previous ruleset, as changes that bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// All services of the previous ruleset, and the rules to restore.
    restored: Ruleset,
    /// Rules of the ruleset in force to drop; `None`: all of them.
    dropped: Option<(Vec<Entry4>, Vec<Entry6>)>,
}

impl Previous {
    /// The changes that turn `new` back into `previous`. `plan` is the difference between them.
    ///
    /// # Errors
    /// None for rulesets that could be built.
    pub fn between(previous: &Ruleset, new: &Ruleset, plan: &Plan) -> Result<Self, BuildError> {
        if plan.rules.len() >= previous.len() {
            return Ok(Self { restored: previous.clone(), dropped: None });
        }
        let mut restored = Builder::with_services(previous.services());
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut drop = |rule: &Rule| {
            let Ok(shape) = new.shapes.binary_search(&Shape::of(rule)) else { return };
            match rule.matching.local.family() {
                Family::V4 => v4.push(Entry4::new(rule.matching.local, shape as u32)),
                Family::V6 => v6.push(Entry6::new(rule.matching.local, shape as u32)),
            }
        };
        for change in &plan.rules {
            match change {
                Change::Added(rule) => drop(rule),
                Change::Removed(rule) => push_named(&mut restored, previous, rule, rule.verdict)?,
                Change::Replaced { new: rule, previous: verdict } => {
                    drop(rule);
                    push_named(&mut restored, new, rule, *verdict)?;
                }
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Ok(Self { restored: with_indexes_of(restored, previous).finish_part()?, dropped: Some((v4, v6)) })
    }

    /// The services of the previous ruleset.
    pub fn services(&self) -> &Services {
        self.restored.services()
    }

    /// A builder with the previous ruleset, which `in_force` replaced. Its services have the numbers that they had, its
    /// interfaces the indexes.
    ///
    /// # Errors
    /// Those of [`Builder::push`], which a ruleset that was built once does not give.
    pub fn builder(&self, in_force: &Ruleset) -> Result<Builder, BuildError> {
        let Some((v4, v6)) = &self.dropped else { return Ok(Builder::from_ruleset(self.restored.clone())) };
        let mut builder = Builder::with_services(self.services());
        push_kept(&mut builder, in_force, &in_force.v4, v4)?;
        push_kept(&mut builder, in_force, &in_force.v6, v6)?;
        for rule in self.restored.rules() {
            push_named(&mut builder, &self.restored, &rule, rule.verdict)?;
        }
        Ok(with_indexes_of(with_indexes_of(builder, in_force), &self.restored))
    }

    /// The words to store.
    pub fn to_words(&self) -> Vec<u32> {
        let none = (Vec::new(), Vec::new());
        let (dropped4, dropped6) = self.dropped.as_ref().unwrap_or(&none);
        let Ruleset { v4, v6, .. } = &self.restored;
        let head = ruleset::head(&self.restored);
        let has_marks = self.restored.shapes.iter().any(|shape| shape.mark.is_some());
        let counts = [
            if has_marks { FORMAT_WITH_MARKS } else { FORMAT } as usize,
            self.dropped.is_none().into(),
            head.len(),
            v4.len(),
            v6.len(),
            dropped4.len(),
            dropped6.len(),
        ];
        let mut bytes = Vec::with_capacity(6 * (v4.len() + dropped4.len()));
        write4(v4, &mut bytes);
        write6(v6, &mut bytes);
        write4(dropped4, &mut bytes);
        write6(dropped6, &mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let stream = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        counts.into_iter().map(|count| count as u32).chain(head).chain(stream).collect()
    }

    /// Reads the words of [`Previous::to_words`].
    ///
    /// # Errors
    /// [`SourceError`] when the words are not such a ruleset.
    pub fn decode(words: &[u32]) -> Result<Self, SourceError> {
        let mut words = Words(words);
        let (whole, mut restored, [v4, v6, dropped4, dropped6]) = read_head(&mut words)?;
        let bytes: Vec<u8> = words.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = Bytes(bytes.iter());
        restored.v4 = bytes.entries4(v4)?;
        restored.v6 = bytes.entries6(v6)?;
        if !is_valid(&restored) {
            return Err(DAMAGED);
        }
        let dropped = (bytes.entries4(dropped4)?, bytes.entries6(dropped6)?);
        Ok(Self { restored, dropped: (!whole).then_some(dropped) })
    }

    /// Reads only the services of these words, not the rules.
    ///
    /// # Errors
    /// [`SourceError`] when the words are not such a ruleset.
    pub fn decode_services(words: &[u32]) -> Result<Services, SourceError> {
        Ok(read_head(&mut Words(words))?.1.services)
    }
}

fn read_head(words: &mut Words<'_>) -> Result<(bool, Ruleset, [usize; 4]), SourceError> {
    let counts = words.take(COUNTS, "counts of previous rules")?;
    let &[FORMAT | FORMAT_WITH_MARKS, whole, head, v4, v6, dropped4, dropped6] = counts else {
        return Err(SourceError::Damaged("form of previous rules"));
    };
    let mut head = Words(words.take(head as usize, "previous services")?);
    let (restored, ..) = ruleset::read_head(&mut head)?;
    Ok((whole != 0, restored, [v4, v6, dropped4, dropped6].map(|count| count as usize)))
}

/// Adds a rule of `ruleset`, which has the name of its interface, with a verdict in the numbers of the builder.
fn push_named(builder: &mut Builder, ruleset: &Ruleset, rule: &Rule, verdict: Verdict) -> Result<(), BuildError> {
    let named = rule.matching.iface.map(|id| &ruleset.interface(id).name);
    let iface = named.map(|name| builder.interface_named(name)).transpose()?;
    builder.push(&Rule { matching: Match { iface, ..rule.matching }, verdict })
}

/// Adds the rules in force that are not dropped. Both lists are sorted.
fn push_kept<E: Entry>(builder: &mut Builder, in_force: &Ruleset, all: &[E], dropped: &[E]) -> Result<(), BuildError> {
    let mut dropped = dropped.iter().peekable();
    for entry in all {
        if dropped.next_if_eq(&entry).is_some() {
            continue;
        }
        let rule = in_force.shapes[entry.shape() as usize].rule(entry.local());
        let previous = |id: ServiceId| in_force.services.get(id).and_then(|it| builder.services().id(it.name.as_str()));
        let verdict = match rule.verdict {
            // A rule that stays names a service that stays.
            Verdict::Service(id) => Verdict::Service(previous(id).unwrap_or(id)),
            plain => plain,
        };
        push_named(builder, in_force, &rule, verdict)?;
    }
    Ok(())
}

/// The builder, with the indexes of `ruleset` for the interfaces that both have.
fn with_indexes_of(mut builder: Builder, ruleset: &Ruleset) -> Builder {
    let known = builder.interfaces().to_vec();
    let index = |name: &crate::rule::InterfaceName, all: &[crate::rule::Interface]| {
        all.iter().find(|interface| interface.name == *name).map(|interface| interface.index)
    };
    builder.resolve_interfaces(|name| index(name, ruleset.interfaces()).or_else(|| index(name, &known)).unwrap_or(0));
    builder
}

fn write4(entries: &[Entry4], bytes: &mut Vec<u8>) {
    let mut before = 0;
    for entry in entries {
        push_number(bytes, (entry.addr() - before).into());
        bytes.push(entry.len());
        push_number(bytes, entry.shape().into());
        before = entry.addr();
    }
}

fn write6(entries: &[Entry6], bytes: &mut Vec<u8>) {
    let mut before = 0;
    for entry in entries {
        push_number(bytes, entry.addr - before);
        bytes.push(entry.len());
        push_number(bytes, entry.shape().into());
        before = entry.addr;
    }
}

fn push_number(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The bytes that are still to be read.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8, SourceError> {
        self.0.next().copied().ok_or(DAMAGED)
    }

    fn number(&mut self) -> Result<u128, SourceError> {
        let mut number = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DAMAGED)
    }

    fn length(&mut self, most: u8) -> Result<u8, SourceError> {
        Some(self.byte()?).filter(|len| *len <= most).ok_or(DAMAGED)
    }

    fn shape(&mut self) -> Result<ShapeId, SourceError> {
        let number = self.number()?;
        if number < MAX_SHAPES as u128 { Ok(number as ShapeId) } else { Err(DAMAGED) }
    }

    fn entries4(&mut self, count: usize) -> Result<Vec<Entry4>, SourceError> {
        let (mut entries, mut addr) = (Vec::new(), 0_u32);
        for _ in 0..count {
            let distance = u32::try_from(self.number()?).map_err(|_| DAMAGED)?;
            addr = addr.checked_add(distance).ok_or(DAMAGED)?;
            entries.push(Entry4::new(Prefix::v4(addr, self.length(32)?), self.shape()?));
        }
        Ok(entries)
    }

    fn entries6(&mut self, count: usize) -> Result<Vec<Entry6>, SourceError> {
        let (mut entries, mut addr) = (Vec::new(), 0_u128);
        for _ in 0..count {
            addr = addr.checked_add(self.number()?).ok_or(DAMAGED)?;
            entries.push(Entry6::new(Prefix::v6(addr, self.length(128)?), self.shape()?));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A larger number would change the length beside it.
    #[test]
    fn numbers_of_shapes_have_a_limit() {
        let entries = |shape: u128| {
            let mut bytes = vec![1, 24];
            push_number(&mut bytes, shape);
            (Bytes(bytes.iter()).entries4(1), Bytes(bytes.iter()).entries6(1))
        };
        assert!(matches!(entries(MAX_SHAPES as u128 - 1), (Ok(_), Ok(_))));
        for shape in [MAX_SHAPES as u128, 1 << 26, 1 << 31, 1 << 32] {
            assert!(matches!(entries(shape), (Err(_), Err(_))), "{shape}");
        }
    }
}
