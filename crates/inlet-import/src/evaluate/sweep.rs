//! Numbers (addresses, ports) in stretches in which the same ranges have them.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A range that tells numbers apart.
pub(super) struct Item {
    pub(super) first: u128,
    pub(super) last: u128,
    /// What being in the range means: the same for ranges that mean the same.
    pub(super) token: u128,
    /// What is to be known of numbers in it.
    pub(super) note: Option<(usize, u32)>,
}

/// Stretches by their first number, each with its class: numbers of one class are in ranges of the same meaning.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    pub(super) starts: Vec<(u128, u32)>,
    /// For each class a number of it, and the notes there.
    pub(super) classes: Vec<(u128, Vec<(usize, u32)>)>,
}

/// A number for the meaning of a range.
pub(super) fn token(meaning: impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &meaning).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Cuts the numbers from `first` to `last` where ranges begin and end.
pub(super) fn stretches(items: &[Item], first: u128, last: u128) -> Stretches {
    let mut events: Vec<(u128, bool, usize)> = Vec::with_capacity(items.len() * 2);
    for (number, item) in items.iter().enumerate() {
        events.push((item.first.max(first), true, number));
        if item.last < last {
            events.push((item.last + 1, false, number));
        }
    }
    events.sort_unstable();
    let mut found = Stretches::default();
    let mut known: HashMap<u128, u32> = HashMap::new();
    let mut notes: BTreeSet<(usize, u32)> = BTreeSet::new();
    let (mut meaning, mut at, mut next) = (0_u128, first, 0);
    loop {
        while let Some((_, begins, number)) = events.get(next).filter(|event| event.0 <= at) {
            let item = &items[*number];
            meaning = if *begins { meaning.wrapping_add(item.token) } else { meaning.wrapping_sub(item.token) };
            if let Some(note) = item.note {
                _ = if *begins { notes.insert(note) } else { notes.remove(&note) };
            }
            next += 1;
        }
        let class = *known.entry(meaning).or_insert_with(|| {
            found.classes.push((at, notes.iter().copied().collect()));
            found.classes.len() as u32 - 1
        });
        if found.starts.last().is_none_or(|(_, before)| *before != class) {
            found.starts.push((at, class));
        }
        match events.get(next) {
            Some(event) => at = event.0,
            None => return found,
        }
    }
}
