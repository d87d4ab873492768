use std::time::Duration;

/// How long a test waits for what must come. On an emulated machine with busy neighbours a command takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a test does what chance decides. An emulated machine (INLET_VM) is some twenty times as slow: there it is
/// the kernel that is tried, and the host has tried chance.
pub fn rounds(host: usize, emulated: usize) -> usize {
    if std::env::var_os("INLET_VM").is_some() { emulated } else { host }
}
