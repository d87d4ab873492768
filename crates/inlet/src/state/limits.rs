//! How many flows an instance keeps: in a map of its own where it was asked for another number than the usual one.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapType};

use super::layout::Files;
use super::map::{Access, create, open_map};
use super::pins::is_there;
use super::readers::Readers;
use crate::error::{Error, Result};
use crate::kernel::raw;

/// How many flows are kept unless it is said otherwise. The kernel forgets the one that was not used for longest.
pub(crate) const USUAL_FLOWS: u32 = 1 << 16;

/// How many flows an instance keeps, in each of its tables.
pub(crate) fn max_flows(files: &Files) -> Result<u32> {
    let path = files.max_flows();
    if !is_there(&path)? {
        return Ok(USUAL_FLOWS);
    }
    let value = open_map(&path, Access::Read)?.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
    let value = value.map_err(Error::at("read", &path))?.and_then(|value| value.try_into().ok());
    Ok(value.map_or(USUAL_FLOWS, u32::from_ne_bytes))
}

/// Sets it. Tables that are there already are of another size then.
pub(crate) fn set_max_flows(files: &Files, count: u32, readers: Readers) -> Result<()> {
    let path = files.max_flows();
    let is_new = !is_there(&path)?;
    let map =
        if is_new { create("inlet_max_flows", MapType::Array, 4, 1, 0)? } else { open_map(&path, Access::Write)? };
    let set = map.update(&0_u32.to_ne_bytes(), &count.to_ne_bytes(), MapFlags::ANY);
    set.map_err(Error::at("write", &path))?;
    if is_new {
        raw::pin(map.as_fd(), &path).map_err(Error::at("pin", &path))?;
        readers.admit_to_map(&path)?;
    }
    Ok(())
}
