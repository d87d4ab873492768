//! Sets of marks, and whether some cover others.

use std::fmt;
use std::sync::Arc;

use super::{Area, sources_covered};
use crate::rule::{Mark, Prefix};

/// Marks, as far as rules tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Every mark, also an unknown one.
    Any,
    /// The marks that this matches.
    Of(Mark),
    /// Every mark that none of these matches, also an unknown one.
    NotOf(Arc<[Mark]>),
}

impl Marks {
    /// Whether the mark of a packet is included; `None` means an unknown one.
    pub fn contains(&self, mark: Option<u32>) -> bool {
        match self {
            Self::Any => true,
            Self::Of(of) => mark.is_some_and(|mark| of.matches(mark)),
            Self::NotOf(marks) => mark.is_none_or(|mark| !marks.iter().any(|of| of.matches(mark))),
        }
    }
}

/// `mark 0x1/0xff`, or `not mark 0x1,0x2`; nothing for every mark.
impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Of(mark) => write!(f, "mark {mark}"),
            Self::NotOf(marks) => {
                let marks: Vec<String> = marks.iter().map(Mark::to_string).collect();
                write!(f, "not mark {}", marks.join(","))
            }
        }
    }
}

/// Whether all sources and marks of `whole` are in one of `parts`, none of which is wider. Between two neighbouring
/// borders of sources only the marks count.
pub(super) fn covered(whole: &Area, parts: &[&Area]) -> bool {
    if sources_covered(whole.source, parts.iter().filter(|part| part.mark == whole.mark).map(|part| part.source)) {
        return true;
    }
    let Some(mark) = whole.mark else { return false };
    let everywhere = |prefix: Prefix| prefix.family().everywhere();
    let named = parts.iter().find_map(|part| part.source);
    let (low, high) = match whole.source.or_else(|| named.map(everywhere)) {
        Some(sources) => sources.ends(),
        None => (0, 0),
    };
    let ends = |part: &Area| part.source.map_or((low, high), |source| source.ends());
    let mut starts: Vec<u128> = vec![low];
    starts.extend(parts.iter().map(|part| ends(part).0));
    starts.extend(parts.iter().filter_map(|part| ends(part).1.checked_add(1)));
    starts.retain(|start| (low..=high).contains(start));
    starts.sort_unstable();
    starts.dedup();
    let here = |start: &u128| -> Vec<Mark> {
        let holds = |part: &&&Area| (ends(part).0..=ends(part).1).contains(start);
        parts.iter().filter(holds).filter_map(|part| part.mark).collect()
    };
    starts.iter().all(|start| marks_covered(mark, &here(start)))
}

/// Whether every mark of `whole` is matched by one of `parts`. It halves by the bits that count for some part.
fn marks_covered(whole: Mark, parts: &[Mark]) -> bool {
    let parts: Vec<Mark> = parts.iter().copied().filter(|part| part.intersection(whole).is_some()).collect();
    if parts.iter().any(|part| part.covers(whole)) {
        return true;
    }
    // How much of the whole the parts have at most.
    let share = |part: &Mark| (-f64::from((part.mask() & !whole.mask()).count_ones())).exp2();
    if parts.iter().map(share).sum::<f64>() < 1.0 {
        return false;
    }
    let widest = parts.iter().min_by_key(|part| (part.mask() & !whole.mask()).count_ones());
    let more = widest.map_or(0, |part| part.mask() & !whole.mask());
    let bit = more & more.wrapping_neg();
    whole.halves(bit).is_some_and(|halves| halves.into_iter().all(|half| marks_covered(half, &parts)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Marks of four bits.
    fn mark() -> impl Strategy<Value = Mark> {
        (1_u32..16, 0_u32..16).prop_filter_map("no bit", |(mask, value)| Mark::new(value & mask, mask).ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn covered_marks_are_all_matched(whole in mark(), parts in vec(mark(), 0..8)) {
            let of_whole = (0..16).filter(|mark| whole.matches(*mark));
            let all = of_whole.clone().all(|mark| parts.iter().any(|part| part.matches(mark)));
            prop_assert_eq!(marks_covered(whole, &parts), all);
            for part in &parts {
                let shared = whole.intersection(*part);
                for mark in 0..16 {
                    let both = whole.matches(mark) && part.matches(mark);
                    prop_assert_eq!(shared.is_some_and(|shared| shared.matches(mark)), both);
                }
                prop_assert_eq!(part.covers(whole), of_whole.clone().all(|mark| part.matches(mark)));
            }
        }
    }
}
