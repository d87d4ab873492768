//! Two things at once: the only threads of this crate, which end with the call that they are for.

use std::panic::resume_unwind;
use std::thread;

/// From how much work on two threads are quicker than one: so many rules.
pub(crate) const MANY: usize = 1 << 14;

/// Does both, on two threads when that is worthwhile and there is a second one to be had; otherwise `one` is done here as well.
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
