//! Displacing what caches and TLB hold, by walking memory.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

const LINE: usize = 64;
/// When the kernel does not say.
const USUAL_LAST_LEVEL: usize = 32 << 20;

/// Memory of which one byte a line is read. It is in small pages, so that the TLB is displaced too.
#[derive(Debug)]
pub(crate) struct Displacer {
    memory: Vec<u8>,
}

impl Displacer {
    /// As large as the last level of cache, so many times.
    pub(crate) fn new(times: f64) -> Self {
        let bytes = (last_level() as f64 * times) as usize;
        let mut memory = Vec::with_capacity(bytes);
        crate::raw::small_pages(&mut memory);
        memory.resize(bytes, 1);
        Self { memory }
    }

    /// Displaces.
    pub(crate) fn walk(&self) {
        let sum = self.memory.iter().step_by(LINE).fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        black_box(sum);
    }

    pub(crate) fn megabytes(&self) -> usize {
        self.memory.len() >> 20
    }

    /// How long one walk takes, in milliseconds.
    pub(crate) fn walk_ms(&self) -> f64 {
        let started = Instant::now();
        (0..4).for_each(|_| self.walk());
        started.elapsed().as_secs_f64() * 1e3 / 4.0
    }
}

/// The size of the largest cache of this processor, in bytes.
fn last_level() -> usize {
    let size = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        let (number, unit) = text.trim().split_at(text.trim().len() - 1);
        let scale = if unit == "M" { 1 << 20 } else { 1 << 10 };
        Some(number.parse::<usize>().ok()? * scale)
    };
    (0..8).filter_map(size).max().unwrap_or(USUAL_LAST_LEVEL)
}
