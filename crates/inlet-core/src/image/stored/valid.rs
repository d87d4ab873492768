//! Whether what was read is a ruleset as they are made: what else there is relies on that.

use crate::rule::Verdict;
use crate::ruleset::{Entry, Ruleset, Shape};
use crate::threads::{MANY, join};

/// A shape is not for rules of this family: it has a source of the other one.
const NOT_V4: u8 = 1;
const NOT_V6: u8 = 2;

/// Whether shapes and rules ascend, the rules have shapes of their family, the shapes services and interfaces that are there,
/// and addresses no bits beyond their length.
pub(super) fn is_valid(ruleset: &Ruleset) -> bool {
    let Ruleset { services, interfaces, shapes, v4, v6 } = ruleset;
    let has_all = |shape: &Shape| {
        let service = match shape.verdict {
            Verdict::Service(id) => services.get(id).is_some(),
            Verdict::Pass | Verdict::Refuse => true,
        };
        service && shape.iface.is_none_or(|id| id.index() < interfaces.len())
    };
    if !shapes.is_sorted_by(|a, b| a < b) || !shapes.iter().all(has_all) {
        return false;
    }
    let not: Vec<u8> = shapes.iter().map(not_for).collect();
    let many = v4.len().min(v6.len()) >= MANY;
    let (v4, v6) = join(many, || are_valid(v4, 32, &not, NOT_V4), || are_valid(v6, 128, &not, NOT_V6));
    v4 && v6
}

fn not_for(shape: &Shape) -> u8 {
    match shape.source.map(|source| source.is_v6()) {
        None => 0,
        Some(true) => NOT_V4,
        Some(false) => NOT_V6,
    }
}

fn are_valid<E: Entry>(entries: &[E], longest: u8, not: &[u8], family: u8) -> bool {
    let is_valid = |entry: &E| {
        let (addr, len) = entry.local_bits();
        let beyond = u128::MAX.checked_shr(128 - u32::from(longest.saturating_sub(len))).unwrap_or(0);
        len <= longest && addr & beyond == 0 && not.get(entry.shape() as usize).is_some_and(|not| not & family == 0)
    };
    entries.is_sorted_by(|a, b| a < b) && entries.iter().all(is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Entry4, Entry6};

    #[test]
    fn bits_beyond_the_length_are_found() {
        let v4 = |addr: u32, len: u64| Entry4(u64::from(addr) << 32 | len << 26);
        let v6 = |addr: u128, len: u32| Entry6 { addr, tail: len << 24 };
        let valid4 = |addr, len| are_valid(&[v4(addr, len)], 32, &[0], NOT_V4);
        let valid6 = |addr, len| are_valid(&[v6(addr, len)], 128, &[0], NOT_V6);
        assert!(valid4(0, 0) && valid4(u32::MAX, 32) && valid4(0x0a00_0000, 8) && valid4(0x0a00_0100, 24));
        assert!(!valid4(1, 0) && !valid4(1, 31) && !valid4(0x0a01_0000, 8) && !valid4(0, 33) && !valid4(u32::MAX, 63));
        assert!(valid6(0, 0) && valid6(u128::MAX, 128) && valid6(1 << 64, 64));
        assert!(!valid6(1, 0) && !valid6(1, 127) && !valid6(1 << 63, 64) && !valid6(0, 129));
    }
}
