//! Medians and spreads.

use serde::Serialize;

/// The middle of some numbers; of an even count the mean of the two in the middle.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Where the middle half of some numbers lies: a quarter of them is below, a quarter above.
pub(crate) fn middle_half(numbers: &[f64]) -> [f64; 2] {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len().saturating_sub(1) * part / 4).copied().unwrap_or(f64::NAN);
    [at(1), at(3)]
}

/// A median with the smallest and the largest.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let fold = |pick: fn(f64, f64) -> f64| numbers.iter().copied().fold(f64::NAN, pick);
        Self { median: median(numbers.iter().copied()), min: fold(f64::min), max: fold(f64::max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half() {
        assert_eq!(middle_half(&[5.0, 1.0, 3.0, 2.0, 4.0]), [2.0, 4.0]);
        assert_eq!(middle_half(&[7.0]), [7.0, 7.0]);
        assert!(middle_half(&[]).iter().all(|end| end.is_nan()));
    }
}
