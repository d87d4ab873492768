//! Fault points: in a build with the feature `faults`, the process kills itself at the step that `INLET_FAULT` names.
//!
//! In every other build a point is nothing at all.

/// A step of an operation that changes state. The name is `operation:step`.
#[cfg(feature = "faults")]
pub(crate) fn point(name: &str) {
    if std::env::var_os("INLET_FAULT").is_some_and(|wanted| wanted == name) {
        let this = rustix::process::getpid();
        // SIGKILL, as a crash leaves no time to clean up. The signal is delivered before the call returns.
        let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}

/// A step of an operation that changes state.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}

/// Whether to act as on a kernel that lacks something, which `INLET_LACKS` names.
#[cfg(feature = "faults")]
pub(crate) fn lacks(what: &str) -> bool {
    std::env::var_os("INLET_LACKS").is_some_and(|lacked| lacked == what)
}

/// Whether to act as on a kernel that lacks something.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) fn lacks(_what: &str) -> bool {
    false
}
