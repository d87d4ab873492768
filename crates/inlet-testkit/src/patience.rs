use std::time::Duration;

/// How long a test waits for what must come. On an emulated machine with busy neighbours a command takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);
