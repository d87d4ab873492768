//! Which rules win by the mark of a packet.

use super::cells::{ByMark, Winner, Winners};
use crate::rule::Mark;
use crate::ruleset::ShapeId;

/// A rule with its mark, as [`Winner`] has it.
type Marked = (Option<Mark>, (usize, ShapeId));

/// The winners among these rules, in the order in which they win, of both rulesets: those of packets whose mark is
/// unknown, and all marks that have others.
pub(super) fn by_mark(previous: &[Marked], new: &[Marked]) -> ByMark {
    let unmarked = |rules: &[Marked]| rules.iter().find(|(mark, _)| mark.is_none()).map(|(_, id)| *id);
    let usual = Winners { previous: unmarked(previous), new: unmarked(new) };
    let mut special = Vec::new();
    // The first bit splits all marks, and after it there is a mark to split further.
    if let Some(bit) = next_bit(None, [previous, new]) {
        for value in [0, bit] {
            special.extend(Mark::new(value, bit).map(|half| within(half, previous, new)).unwrap_or_default());
        }
    }
    special.retain(|(_, winners)| *winners != usual);
    (usual, special)
}

/// The winners within a mark, in as few parts as the order of the rules gives.
fn within(whole: Mark, previous: &[Marked], new: &[Marked]) -> Vec<(Mark, Winners)> {
    let meeting = |rules: &[Marked]| -> Vec<Marked> {
        let meets = |(mark, _): &&Marked| mark.is_none_or(|mark| mark.intersection(whole).is_some());
        rules.iter().filter(meets).copied().collect()
    };
    let (previous, new) = (meeting(previous), meeting(new));
    let first = |rules: &[Marked]| -> Winner { rules.first().map(|(_, id)| *id) };
    let halves = next_bit(Some(whole), [&previous, &new]).and_then(|bit| whole.halves(bit));
    let Some([low, high]) = halves else {
        return vec![(whole, Winners { previous: first(&previous), new: first(&new) })];
    };
    let (mut parts, more) = (within(low, &previous, &new), within(high, &previous, &new));
    match (parts.as_slice(), more.as_slice()) {
        ([one], [other]) if one.1 == other.1 => vec![(whole, one.1)],
        _ => {
            parts.extend(more);
            parts
        }
    }
}

/// A bit that tells whether the first rule of a side wins everywhere; `None` when it does on both sides.
fn next_bit(whole: Option<Mark>, sides: [&[Marked]; 2]) -> Option<u32> {
    let known = whole.map_or(0, Mark::mask);
    let first = sides.into_iter().filter_map(|rules| rules.first()?.0);
    // Of both sides alike, so that the way back is told in the same parts.
    let more = first.fold(0, |more, mark| more | mark.mask() & !known);
    (more != 0).then_some(more & more.wrapping_neg())
}
