//! The sockets that systemd passes to a service unit (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: u32 = 3;

/// Copies of the sockets passed to this process, each with a name for messages.
pub(crate) fn sockets() -> Result<Vec<(String, OwnedFd)>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let count = number("LISTEN_FDS").ok_or_else(|| Error::NoListenFds("LISTEN_FDS is not set".to_owned()))?;
    let this = std::process::id();
    if let Some(pid) = number("LISTEN_PID").filter(|pid| *pid != this) {
        return Err(Error::NoListenFds(format!("they are for process {pid}, and this one is {this}")));
    }
    // Through the process's own descriptor directory, as those of another process: nobody else owns these numbers, but
    // a copy needs no claim on them.
    let all = super::process::sockets(this)?;
    let passed = |name: &str| {
        name.strip_prefix("fd ")
            .and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| (FIRST..FIRST.saturating_add(count)).contains(&n))
    };
    Ok(all.into_iter().filter(|(name, _)| passed(name)).collect())
}
