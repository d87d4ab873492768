//! The sockets that systemd passes to a service unit (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use crate::error::{Error, Result, SocketError};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: u32 = 3;

/// Looks at a copy of each socket passed to this process.
pub(crate) fn each(look: impl FnMut(&str, OwnedFd)) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let count = number("LISTEN_FDS")
        .ok_or_else(|| Error::Socket(SocketError::NoListenFds("LISTEN_FDS is not set".to_owned())))?;
    let this = std::process::id();
    if let Some(pid) = number("LISTEN_PID").filter(|pid| *pid != this) {
        return Err(Error::Socket(SocketError::NoListenFds(format!(
            "they are for process {pid}, and this one is {this}"
        ))));
    }
    let passed = FIRST..FIRST.saturating_add(count);
    // Through the process's own descriptor directory, as those of another process: nobody else owns these numbers, but
    // a copy needs no claim on them.
    super::process::each(this, |number| u32::try_from(number).is_ok_and(|number| passed.contains(&number)), look)
}
