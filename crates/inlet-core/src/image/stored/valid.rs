//! Whether a ruleset that was read is valid, as all other code expects.

use crate::rule::{Family, Verdict};
use crate::ruleset::{Entry, Ruleset, Shape};
use crate::threads::{MANY, join};

/// Whether shapes and rules are sorted, rules have shapes of their family, shapes and descriptions have services and
/// interfaces that exist, and addresses have no bits beyond their length.
pub(super) fn is_valid(ruleset: &Ruleset) -> bool {
    let Ruleset { services, interfaces, shapes, v4, v6 } = ruleset;
    let has_all = |shape: &Shape| {
        let service = match shape.verdict {
            Verdict::Service(id) => services.get(id).is_some(),
            Verdict::Pass | Verdict::Refuse => true,
        };
        service && shape.iface.is_none_or(|id| id.index() < interfaces.len())
    };
    let has_device = |name| interfaces.iter().any(|interface| interface.name == name);
    if !services.devices().all(has_device) {
        return false;
    }
    if !shapes.is_sorted_by(|a, b| a < b) || !shapes.iter().all(has_all) {
        return false;
    }
    let families: Vec<Option<Family>> = shapes.iter().map(|shape| shape.source.map(|source| source.family())).collect();
    let many = v4.len().min(v6.len()) >= MANY;
    let (v4, v6) = join(many, || are_valid(v4, Family::V4, &families), || are_valid(v6, Family::V6, &families));
    v4 && v6
}

/// Whether these are rules of this family, in order. `families` has that of each shape's source.
fn are_valid<E: Entry>(entries: &[E], family: Family, families: &[Option<Family>]) -> bool {
    let longest = family.bits();
    let has_shape =
        |shape: u32| families.get(shape as usize).is_some_and(|source| source.is_none_or(|it| it == family));
    let is_valid = |entry: &E| {
        let (addr, len) = entry.local_bits();
        let beyond = u128::MAX.checked_shr(128 - u32::from(longest.saturating_sub(len))).unwrap_or(0);
        len <= longest && addr & beyond == 0 && has_shape(entry.shape())
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
        let valid4 = |addr, len| are_valid(&[v4(addr, len)], Family::V4, &[None]);
        let valid6 = |addr, len| are_valid(&[v6(addr, len)], Family::V6, &[None]);
        assert!(valid4(0, 0) && valid4(u32::MAX, 32) && valid4(0x0a00_0000, 8) && valid4(0x0a00_0100, 24));
        assert!(!valid4(1, 0) && !valid4(1, 31) && !valid4(0x0a01_0000, 8) && !valid4(0, 33) && !valid4(u32::MAX, 63));
        assert!(valid6(0, 0) && valid6(u128::MAX, 128) && valid6(1 << 64, 64));
        assert!(!valid6(1, 0) && !valid6(1, 127) && !valid6(1 << 63, 64) && !valid6(0, 129));
    }
}
