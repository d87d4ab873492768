//! Lanes: for each service, protocol and family, the slots in the map of sockets that the program chooses among.
//!
//! A lane has a stock of slots that are its alone. Packets go to the first ones, as many as it shows; an empty slot among
//! them is passed over. The program reads lanes while they change, and the kernel puts described listeners into empty slots
//! of the stock by itself. So every change is one word at a time and each state in between is whole: a slot is in the stock
//! before a socket is put into it, and a socket is in its slot before that is shown.

use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;

use inlet_core::{MAX_SERVICES, Protocol, ServiceId, Services};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::steer::types;
use crate::error::{Error, Result};
use crate::kernel::raw::Words;
use crate::state::{LANES_PER_SERVICE, Maps};

/// How many sockets a lane has room for.
pub(crate) const LANE_SLOTS: usize = 64;

const COUNT: usize = offset_of!(types::lane, count) / size_of::<u32>();
const STOCK: usize = offset_of!(types::lane, stock) / size_of::<u32>();
const SLOTS: usize = offset_of!(types::lane, slot) / size_of::<u32>();
/// The kernel keeps the values of an array at multiples of 8 bytes.
const LANE_WORDS: usize = size_of::<types::lane>().next_multiple_of(8) / size_of::<u32>();
const _: () = assert!(size_of::<types::lane>() == size_of::<u32>() * (2 + LANE_SLOTS));

/// One lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// Those of every number that a service can have.
    pub(crate) fn of_all_services() -> impl Iterator<Item = Self> {
        let per_service = LANES_PER_SERVICE as usize;
        (per_service..usize::from(MAX_SERVICES) * per_service).map(Self)
    }

    /// Whose it is.
    pub(crate) fn service(self) -> Option<ServiceId> {
        u16::try_from(self.0 / LANES_PER_SERVICE as usize).ok().and_then(ServiceId::new)
    }

    pub(crate) fn protocol(self) -> Protocol {
        if self.0.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp }
    }

    pub(crate) fn is_v6(self) -> bool {
        self.0 % LANES_PER_SERVICE as usize >= 2
    }

    /// The four lanes of a service.
    pub(crate) fn all(service: ServiceId) -> [Self; LANES_PER_SERVICE as usize] {
        std::array::from_fn(|i| Self(usize::from(service.get()) * LANES_PER_SERVICE as usize + i))
    }
}

impl Lanes {
    pub(crate) fn map(lanes: &MapHandle) -> Result<Self> {
        Self::map_first(lanes, lanes.max_entries() as usize)
    }

    /// Only so many of them: the kernel maps every page at once, those of all services in most of a millisecond.
    fn map_first(lanes: &MapHandle, count: usize) -> Result<Self> {
        Words::map(lanes.as_fd(), count * LANE_WORDS).map(Self).map_err(Error::os("map", "the lanes of sockets"))
    }

    /// The slots of a lane, shown or not.
    pub(crate) fn stock(&self, lane: Lane) -> Vec<Slot> {
        let stock = self.0.load(Self::place(lane, STOCK)) as usize;
        (0..stock.min(LANE_SLOTS)).map(|at| Slot(self.0.load(Self::place(lane, SLOTS) + at))).collect()
    }

    /// How many of them are shown, the first ones.
    pub(crate) fn count(&self, lane: Lane) -> usize {
        (self.0.load(Self::place(lane, COUNT)) as usize).min(LANE_SLOTS)
    }

    fn place(lane: Lane, word: usize) -> usize {
        lane.0 * LANE_WORDS + word
    }

    /// Gives a lane one more slot of its own, not shown yet.
    pub(crate) fn grow(&self, lane: Lane, slot: Slot) {
        let stock = self.stock(lane).len();
        assert!(stock < LANE_SLOTS, "a full lane is refused before");
        self.0.store(Self::place(lane, SLOTS) + stock, slot.0);
        self.0.store(Self::place(lane, STOCK), stock as u32 + 1);
    }

    /// Shows the slot at a place, and those before it.
    pub(crate) fn show(&self, lane: Lane, at: usize) {
        self.0.raise(Self::place(lane, COUNT), at as u32 + 1);
    }

    /// Shows no more slots than up to the last one that has a socket.
    pub(crate) fn hide_empty_end(&self, lane: Lane, has_socket: impl Fn(Slot) -> Result<bool>) -> Result<()> {
        let (stock, before) = (self.stock(lane), self.count(lane));
        let needed = || -> Result<usize> {
            for (at, slot) in stock.iter().enumerate().take(before).rev() {
                if has_socket(*slot)? {
                    return Ok(at + 1);
                }
            }
            Ok(0)
        };
        let count = needed()?;
        // Not when the kernel has shown another one meanwhile.
        if self.0.replace(Self::place(lane, COUNT), before as u32, count as u32) {
            // It may also have put one into a slot that it still saw shown.
            if let Some(at) = needed()?.checked_sub(1) {
                self.show(lane, at);
            }
        }
        Ok(())
    }

    /// Takes a slot away from a lane into which the kernel puts nothing: the last one takes its place.
    pub(crate) fn take(&self, lane: Lane, slot: Slot) {
        let stock = self.stock(lane);
        if let (Some(at), Some(last)) = (stock.iter().position(|other| *other == slot), stock.last()) {
            self.0.store(Self::place(lane, SLOTS) + at, last.0);
            self.0.store(Self::place(lane, COUNT), self.count(lane).min(stock.len() - 1) as u32);
            self.0.store(Self::place(lane, STOCK), stock.len() as u32 - 1);
        }
    }

    /// Takes all slots of a lane away.
    pub(crate) fn clear(&self, lane: Lane) {
        self.0.store(Self::place(lane, COUNT), 0);
        self.0.store(Self::place(lane, STOCK), 0);
    }
}

/// The lanes of an instance for those who only look at them: many in memory, or, when they are few or may not be written,
/// each one copied when it is asked for.
pub(crate) struct LaneReader<'a> {
    maps: &'a Maps,
    mapped: Option<Lanes>,
}

impl<'a> LaneReader<'a> {
    /// For a few.
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self { maps, mapped: None }
    }

    /// For those of all these services.
    pub(crate) fn of(maps: &'a Maps, services: &Services) -> Self {
        let after = services.iter().map(|(id, _)| usize::from(id.get()) + 1).max();
        let count = after.unwrap_or(1) * LANES_PER_SERVICE as usize;
        Self { maps, mapped: Lanes::map_first(&maps.lanes, count).ok() }
    }

    /// The slots of a lane that are shown.
    fn slots(&self, lane: Lane) -> Result<Vec<Slot>> {
        match &self.mapped {
            Some(lanes) => {
                let mut slots = lanes.stock(lane);
                slots.truncate(lanes.count(lane));
                Ok(slots)
            }
            None => self.copied(lane),
        }
    }

    fn copied(&self, lane: Lane) -> Result<Vec<Slot>> {
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
