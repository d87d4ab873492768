use std::time::Duration;

/// How long a test waits for what must come. On an emulated machine with busy neighbours a command takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this is a guest of `scripts/test-vm`: it has all the modules that the tests want, and a slow processor.
pub fn is_guest() -> bool {
    std::env::var_os("INLET_VM").is_some()
}

/// How often a test does what chance decides. A guest is some twenty times as slow: there it is the kernel that is tried,
/// and the host has tried chance.
pub fn rounds(host: usize, guest: usize) -> usize {
    if is_guest() { guest } else { host }
}
