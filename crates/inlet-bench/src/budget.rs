//! How long a run may take: not so many samples, but so much time, whatever the machine.
//!
//! On a machine with a large last level of cache it takes a tenth of a second to displace the caches once, and some
//! figures displace them before every sample. So each part of the run has a share of the time, takes as many samples as
//! fit, and says how many these were.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::Result;

/// A whole run takes at most so long, once it is built.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Of that, what is kept for work that is under way when the time is over.
const RESERVE: Duration = Duration::from_secs(40);

/// What each part of a run may take of the time that is left when it begins.
pub(crate) const LOOKUP: f64 = 0.6;
pub(crate) const COMMIT: f64 = 0.3;
pub(crate) const TRAFFIC: f64 = 0.6;
pub(crate) const DESCRIBED: f64 = 0.4;
pub(crate) const ANSWERS: f64 = 0.8;

/// What each figure of a lookup may take of the time that is left for its ruleset.
pub(crate) const HOT: f64 = 0.5;
pub(crate) const COLD: f64 = 0.2;
pub(crate) const ALONE: f64 = 0.5;

/// A source of time.
trait Clock: Sync {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;
}

/// The clock of this process.
struct Monotonic(LazyLock<Instant>);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

static MONOTONIC: Monotonic = Monotonic(LazyLock::new(Instant::now));

/// Time until a certain moment, or without an end.
#[derive(Clone, Copy)]
pub(crate) struct Budget<'a> {
    clock: &'a dyn Clock,
    end: Option<Duration>,
}

impl Budget<'static> {
    /// That of a run which begins now.
    pub(crate) fn of_run() -> Self {
        Self::within(&MONOTONIC, LIMIT - RESERVE)
    }

    /// All samples, however long it takes.
    pub(crate) fn thorough() -> Self {
        Self { clock: &MONOTONIC, end: None }
    }
}

impl<'a> Budget<'a> {
    fn within(clock: &'a dyn Clock, time: Duration) -> Self {
        Self { clock, end: Some(clock.now() + time) }
    }

    /// This part of the time that is left.
    pub(crate) fn share(self, part: f64) -> Self {
        let now = self.clock.now();
        let end = self.end.map(|end| now + end.saturating_sub(now).mul_f64(part.clamp(0.0, 1.0)));
        Self { end, ..self }
    }

    /// The part for one ruleset, when those of so many rules are still to come and it is the first of them. What has a
    /// million rules takes its time before anything is measured.
    pub(crate) fn first_of(self, rules: &[usize]) -> Self {
        const LIGHT: f64 = 500_000.0;
        let weight = |rules: &usize| 1.0 + *rules as f64 / LIGHT;
        let all: f64 = rules.iter().map(weight).sum();
        self.share(rules.first().map_or(1.0, |first| weight(first) / all))
    }

    /// Whether no time is left.
    pub(crate) fn is_over(self) -> bool {
        self.end.is_some_and(|end| self.clock.now() >= end)
    }

    /// Takes up to `count` samples: `least` in any case, and then as long as another one of the usual length fits.
    /// Gives how many were taken.
    pub(crate) fn samples(
        self,
        least: usize,
        count: usize,
        mut sample: impl FnMut(usize) -> Result<()>,
    ) -> Result<usize> {
        let begun = self.clock.now();
        for taken in 0..count {
            let now = self.clock.now();
            let usual = (now - begun) / u32::try_from(taken).unwrap_or(u32::MAX).max(1);
            if taken >= least && self.end.is_some_and(|end| now >= end || now + usual > end) {
                return Ok(taken);
            }
            sample(taken)?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that only the test moves.
    #[derive(Default)]
    struct Fake(Mutex<Duration>);

    impl Clock for Fake {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    impl Fake {
        fn pass(&self, seconds: f64) {
            *self.0.lock().unwrap() += Duration::from_secs_f64(seconds);
        }
    }

    /// What a machine takes for things, in seconds.
    struct Speed {
        /// To displace the caches once.
        walk: f64,
        /// To make a ruleset of a million rules, put it in force and fill the trie.
        million: f64,
        hot_key: f64,
        commit: f64,
        round: f64,
    }

    /// Samples of each ruleset: hot, cold, alone, all cold.
    type Taken = [usize; 4];

    /// A whole run as `measure` of main.rs and `Bench::measure` do it, on a machine of this speed.
    fn run(clock: &Fake, speed: &Speed) -> Vec<Taken> {
        let mut sets = [1_000; 16];
        for large in [6, 14, 15] {
            sets[large] = 1_000_000;
        }
        let run = Budget::within(clock, LIMIT - RESERVE);
        let take = |budget: Budget<'_>, least, count, seconds: f64| {
            let sample = |_| {
                clock.pass(seconds);
                Ok(())
            };
            budget.samples(least, count, sample).unwrap()
        };
        let lookups = run.share(LOOKUP);
        let mut taken = Vec::new();
        for (number, rules) in sets.iter().enumerate() {
            let left = lookups.first_of(&sets[number..]);
            if left.is_over() {
                continue;
            }
            clock.pass(0.1 + speed.million * *rules as f64 / 1e6);
            // Each of four programs, each after a walk.
            let displaced = 4.0 * speed.walk;
            taken.push([
                take(left.share(HOT), 1, 15, speed.hot_key),
                take(left.share(COLD), 0, 7, displaced),
                take(left.share(ALONE), 0, 300, displaced),
                take(left, 0, 300, displaced),
            ]);
        }
        take(run.share(COMMIT), 1, 7, speed.commit);
        take(run.share(TRAFFIC), 2, 46, speed.round);
        take(run.share(DESCRIBED), 2, 401, speed.round / 20.0);
        take(run.share(ANSWERS), 2, 61, speed.round / 3.0);
        take(run, 2, 51, speed.round / 20.0);
        taken
    }

    #[test]
    fn a_run_is_bounded_on_any_machine() {
        // A last level of 32 MB, of 300 MB, and one that nobody has yet; slow processors too.
        for walk in [0.001, 0.01, 0.1, 0.5, 5.0] {
            for slow in [1.0, 4.0, 10.0] {
                let clock = Fake::default();
                let speed =
                    Speed { walk, million: 6.0 * slow, hot_key: 0.2 * slow, commit: 2.0 * slow, round: 2.1 * slow };
                let taken = run(&clock, &speed);
                assert!(clock.now() <= LIMIT, "{walk} {slow}: {:?}", clock.now());
                assert!(!taken.is_empty());
            }
        }
    }

    #[test]
    fn a_slow_eviction_costs_samples_and_not_figures() {
        // 600 MB are walked in a tenth of a second: all samples would take more than an hour.
        let clock = Fake::default();
        let taken = run(&clock, &Speed { walk: 0.1, million: 6.0, hot_key: 0.2, commit: 2.0, round: 2.1 });
        assert_eq!(taken.len(), 16);
        for [hot, cold, alone, all_cold] in taken {
            assert_eq!(hot, 15);
            assert!(cold >= 5 && alone >= 12 && all_cold >= 12, "{cold} {alone} {all_cold}");
            assert!(alone < 300, "a walk of a tenth of a second was not slow");
        }
    }

    #[test]
    fn a_fast_machine_takes_all_samples() {
        let clock = Fake::default();
        let taken = run(&clock, &Speed { walk: 0.002, million: 3.0, hot_key: 0.1, commit: 1.0, round: 2.1 });
        assert_eq!(taken, [[15, 7, 300, 300]; 16]);
    }

    #[test]
    fn thorough_has_no_end() {
        let budget = Budget::thorough();
        assert!(!budget.is_over() && !budget.share(0.0).is_over());
        assert_eq!(budget.share(0.0).samples(0, 5, |_| Ok(())).unwrap(), 5);
    }

    #[test]
    fn no_time_no_sample_but_the_least() {
        let clock = Fake::default();
        let budget = Budget::within(&clock, Duration::ZERO);
        assert!(budget.is_over());
        assert_eq!(budget.samples(0, 9, |_| Ok(())).unwrap(), 0);
        assert_eq!(budget.samples(2, 9, |_| Ok(())).unwrap(), 2);
    }
}
