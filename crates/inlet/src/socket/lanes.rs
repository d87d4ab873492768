//! Lanes: for each service, protocol and family, the slots in the map of sockets that the program chooses among.
//!
//! The program reads them while they change, so every change is one word at a time and each state in between is whole:
//! a slot is written before the count that shows it, and a slot in two places is one socket with two chances.

use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;

use inlet_core::{Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::error::{Error, Result};
use crate::raw::Words;
use crate::skeleton::types;
use crate::state::{LANES_PER_SERVICE, Maps};

/// How many sockets a lane has room for.
pub(crate) const LANE_SLOTS: usize = 64;

const COUNT: usize = offset_of!(types::lane, count) / size_of::<u32>();
const SLOTS: usize = offset_of!(types::lane, slot) / size_of::<u32>();
/// The kernel keeps the values of an array at multiples of 8 bytes.
const LANE_WORDS: usize = size_of::<types::lane>().next_multiple_of(8) / size_of::<u32>();
const _: () = assert!(size_of::<types::lane>() == size_of::<u32>() * (1 + LANE_SLOTS));

/// One lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

/// A slot in the map of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// A live socket in a slot of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveSocket {
    pub(crate) cookie: u64,
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// The lanes of an instance for the one who writes, in memory.
#[derive(Debug)]
pub(crate) struct Lanes(Words);

impl Lane {
    pub(crate) fn of(service: ServiceId, protocol: Protocol, v6: bool) -> Self {
        let in_service = usize::from(v6) * 2 + usize::from(protocol == Protocol::Udp);
        Self(usize::from(service.get()) * LANES_PER_SERVICE as usize + in_service)
    }

    /// The four lanes of a service.
    pub(crate) fn all(service: ServiceId) -> [Self; LANES_PER_SERVICE as usize] {
        std::array::from_fn(|i| Self(usize::from(service.get()) * LANES_PER_SERVICE as usize + i))
    }
}

impl Lanes {
    pub(crate) fn map(lanes: &MapHandle) -> Result<Self> {
        let words = lanes.max_entries() as usize * LANE_WORDS;
        Words::map(lanes.as_fd(), words).map(Self).map_err(Error::os("map", "the lanes of sockets"))
    }

    /// The slots of a lane.
    pub(crate) fn slots(&self, lane: Lane) -> Vec<Slot> {
        (0..self.count(lane)).map(|at| Slot(self.0.load(lane.0 * LANE_WORDS + SLOTS + at))).collect()
    }

    fn count(&self, lane: Lane) -> usize {
        (self.0.load(lane.0 * LANE_WORDS + COUNT) as usize).min(LANE_SLOTS)
    }

    fn set_count(&self, lane: Lane, count: usize) {
        self.0.store(lane.0 * LANE_WORDS + COUNT, count as u32);
    }

    /// Shows a slot to the program.
    pub(crate) fn add(&self, lane: Lane, slot: Slot) {
        let count = self.count(lane);
        assert!(count < LANE_SLOTS, "a full lane is refused before");
        self.0.store(lane.0 * LANE_WORDS + SLOTS + count, slot.0);
        self.set_count(lane, count + 1);
    }

    /// Hides a slot from the program: the last one takes its place.
    pub(crate) fn remove(&self, lane: Lane, slot: Slot) {
        let slots = self.slots(lane);
        if let (Some(at), Some(last)) = (slots.iter().position(|other| *other == slot), slots.last()) {
            self.0.store(lane.0 * LANE_WORDS + SLOTS + at, last.0);
            self.set_count(lane, slots.len() - 1);
        }
    }

    /// Hides all slots of a lane.
    pub(crate) fn clear(&self, lane: Lane) {
        self.set_count(lane, 0);
    }
}

/// The lanes of an instance for those who only read: each one is copied when it is looked at.
pub(crate) struct LaneReader<'a> {
    maps: &'a Maps,
}

impl<'a> LaneReader<'a> {
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self { maps }
    }

    fn slots(&self, lane: Lane) -> Result<Vec<Slot>> {
        let value = self.maps.lanes.lookup(&(lane.0 as u32).to_ne_bytes(), MapFlags::ANY);
        let bytes = value.map_err(Error::os("read", format!("lane {}", lane.0)))?.unwrap_or_default();
        let words: Vec<u32> = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes)).collect();
        let count = words.get(COUNT).map_or(0, |count| (*count as usize).min(LANE_SLOTS));
        Ok(words.iter().skip(SLOTS).take(count).map(|slot| Slot(*slot)).collect())
    }

    /// The live sockets of a service.
    pub(crate) fn live(&self, service: ServiceId) -> Result<Vec<LiveSocket>> {
        let mut live: Vec<LiveSocket> = Vec::new();
        for (number, lane) in Lane::all(service).into_iter().enumerate() {
            let v6 = number >= 2;
            for slot in self.slots(lane)? {
                let Some(cookie) = cookie_in(&self.maps.sockets, slot)? else { continue };
                match live.iter_mut().find(|known| known.cookie == cookie) {
                    Some(known) => (known.v4, known.v6) = (known.v4 || !v6, known.v6 || v6),
                    None => live.push(LiveSocket { cookie, v4: !v6, v6 }),
                }
            }
        }
        Ok(live)
    }
}

/// The cookie of the socket in a slot; `None` when the slot is empty.
pub(crate) fn cookie_in(sockets: &MapHandle, slot: Slot) -> Result<Option<u64>> {
    let value =
        sockets.lookup(&slot.0.to_ne_bytes(), MapFlags::ANY).map_err(Error::os("read", format!("slot {}", slot.0)))?;
    Ok(value.and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes))
}
