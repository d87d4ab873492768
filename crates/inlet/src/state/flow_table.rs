//! A table of flows: how full it is, what was forgotten to make room, and how it gets another size.

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::error::{Cause, Error, Result};

/// How full a table of flows is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTable {
    /// How many flows it has.
    pub flows: u64,
    /// How many fit.
    pub max: u32,
    /// How many were forgotten to make room for others: what was entered and is not there any more.
    pub forgotten: u64,
}

impl FlowTable {
    /// Looks at a table in which so many entries were made.
    pub(crate) fn of(table: &MapHandle, made: u64) -> Result<Self> {
        let flows = entries(table)?.count() as u64;
        Ok(Self { flows, max: table.max_entries(), forgotten: made.saturating_sub(flows) })
    }
}

/// The entries of a table, in no order. They are read at once: of several batches the library takes one that the kernel did
/// not fill, as whole buckets did not fit, for the last one.
pub(crate) fn entries(table: &MapHandle) -> Result<impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_> {
    table.lookup_batch(table.max_entries(), MapFlags::ANY, MapFlags::ANY).map_err(Error::os("read", "a table of flows"))
}

/// Copies the entries that are not in another table yet.
pub(crate) fn copy_entries(from: &MapHandle, to: &MapHandle) -> Result<()> {
    for (key, value) in entries(from)? {
        match to.update(&key, &value, MapFlags::NO_EXIST).map_err(Cause::into_io) {
            Err(cause) if cause.raw_os_error() != Some(libc::EEXIST) => {
                return Err(Error::os("write", "a table of flows")(cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The number of a map in the kernel.
pub(crate) fn map_id(map: &MapHandle) -> Result<u32> {
    Ok(map.info().map_err(Error::os("look at", "a map"))?.info.id)
}
