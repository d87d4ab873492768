//! The state of an instance that an earlier version made, as far as a newer one needs it to take the instance over.
//!
//! All formats so far have the same files: maps for sockets, lanes and counters, the link, and generations whose image
//! has the ruleset. They differ in the map of lanes, in the slots for each socket, and in the format of images, which
//! the core knows.

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::layout::Files;
use super::map::{Access, open_map, open_map_of};
use super::maps::{LANES_PER_SERVICE, STATE_FORMAT, counters_of, format_of};
use crate::error::{Error, Result};
use inlet_core::MAX_SERVICES;

/// How many slots a lane had in these formats.
const LANE_SLOTS: usize = 64;

/// An instance of an earlier version.
#[derive(Debug)]
pub(crate) struct Older {
    layout: Layout,
    pub(crate) sockets: MapHandle,
    lanes: MapHandle,
    /// These go on as they are: they have had one layout from the first version on.
    pub(crate) counters: MapHandle,
}

/// What differs from format to format.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// How many words of a lane come before its slots. The first one says how many slots are shown.
    head: usize,
    /// How many slots there are for each socket that fits.
    slots_per_socket: u32,
}

impl Layout {
    fn of(format: u32) -> Option<Self> {
        match format {
            1 => Some(Self { head: 1, slots_per_socket: 1 }),
            2 => Some(Self { head: 2, slots_per_socket: 2 }),
            _ => None,
        }
    }

    /// The bytes of a lane. The kernel keeps them at multiples of eight, and tells the size as it was asked for.
    fn lane(self) -> u32 {
        ((self.head + LANE_SLOTS) * size_of::<u32>()) as u32
    }
}

impl Older {
    /// Opens the instance of an earlier version; `None` when it is of the format of this one, or unknown.
    pub(crate) fn open(files: &Files) -> Result<Option<Self>> {
        let format = format_of(files)?;
        let Some(layout) = Layout::of(format).filter(|_| format < STATE_FORMAT) else { return Ok(None) };
        let lanes = u32::from(MAX_SERVICES) * LANES_PER_SERVICE;
        let sizes = [4, layout.lane()];
        Ok(Some(Self {
            layout,
            sockets: open_map(&files.sockets(), Access::Write)?,
            lanes: open_map_of(&files.lanes(), Access::Read, MapType::Array, sizes, Some(lanes))?,
            counters: counters_of(files, Access::Write)?,
        }))
    }

    /// How many sockets fit.
    pub(crate) fn max_sockets(&self) -> u32 {
        self.sockets.max_entries() / self.layout.slots_per_socket
    }

    /// The slots that packets go to, of each lane that has any: by the number of the lane.
    pub(crate) fn shown(&self) -> Result<Vec<(usize, Vec<u32>)>> {
        let mut found = Vec::new();
        for lane in 0..self.lanes.max_entries() {
            let value = self.lanes.lookup(&lane.to_ne_bytes(), MapFlags::ANY);
            let value = value.map_err(Error::os("read", format!("lane {lane}")))?.unwrap_or_default();
            let words = value.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
            let words: Vec<u32> = words.collect();
            let shown = words.first().map_or(0, |shown| (*shown as usize).min(LANE_SLOTS));
            let slots: Vec<u32> = words.into_iter().skip(self.layout.head).take(shown).collect();
            if !slots.is_empty() {
                found.push((lane as usize, slots));
            }
        }
        Ok(found)
    }
}
