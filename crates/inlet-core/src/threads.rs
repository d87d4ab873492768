//! Runs two halves of a call's work at once. These are the only threads of this crate, and they end with the call.

use std::panic::resume_unwind;
use std::thread;

/// From this many rules on, two threads are faster than one.
pub(crate) const MANY: usize = 1 << 14;

/// Runs both, on two threads when that is worthwhile. Without a second thread `one` runs here too.
pub(crate) fn join<A: Send, B>(worthwhile: bool, one: impl Fn() -> A + Sync, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let begun = worthwhile.then(|| thread::Builder::new().spawn_scoped(scope, &one).ok()).flatten();
        let other = other();
        let one = match begun {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => one(),
        };
        (one, other)
    })
}
