//! By when a generation has to be confirmed: a time since boot in a frozen map, pinned beside the generation.

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::layout::GenerationFiles;
use super::lock::Waiting;
use super::map::{Access, create, open_map};
use super::pins::is_there;
use crate::error::{Error, Result};

/// A ruleset in force that is to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// How much time is left; `None` when it is over.
    pub left: Option<Duration>,
    /// Whether a process waits to go back in time. Without one the next command that changes something does.
    pub waiting: bool,
}

/// The time since boot, in which a suspended machine counts too.
pub(crate) fn now() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    Duration::new(tv_sec.unsigned_abs(), tv_nsec.unsigned_abs() as u32)
}

/// A map that tells by when the ruleset has to be confirmed: nanoseconds since boot.
pub(crate) fn deadline(within: Duration) -> Result<MapHandle> {
    let map = create("inlet_deadline", MapType::Array, 8, 1, 0)?;
    let until = u64::try_from((now() + within).as_nanos()).unwrap_or(u64::MAX);
    map.update(&0_u32.to_ne_bytes(), &until.to_ne_bytes(), MapFlags::ANY)
        .map_err(Error::os("write", "the map of the deadline"))?;
    map.freeze().map_err(Error::os("freeze", "the map of the deadline"))?;
    Ok(map)
}

/// By when a generation has to be confirmed, as time since boot; `None` when it need not be.
pub(crate) fn deadline_of(files: &GenerationFiles) -> Result<Option<Duration>> {
    let path = files.deadline();
    if !is_there(&path)? {
        return Ok(None);
    }
    let value = open_map(&path, Access::Read)?.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
    let value = value.map_err(Error::at("read", &path))?.and_then(|value| value.try_into().ok());
    Ok(Some(Duration::from_nanos(value.map_or(0, u64::from_ne_bytes))))
}

pub(crate) fn pending(files: &GenerationFiles) -> Result<Option<Pending>> {
    let Some(deadline) = deadline_of(files)? else { return Ok(None) };
    let left = deadline.checked_sub(now()).filter(|left| !left.is_zero());
    Ok(Some(Pending { left, waiting: Waiting::is_on(&files.waiting())? }))
}
