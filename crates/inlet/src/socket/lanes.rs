//! Lanes: for each service, protocol and family, the slots in the map of sockets that the program chooses among.
//!
//! A lane owns a range of slots. Packets go to the first ones, as many as it shows; an empty slot among them is passed over.
//! All of a lane is one word (`lanes.bpf.h`). The program reads it while it changes, and the kernel puts described listeners
//! into empty slots by itself. So every state of a lane is whole, and every change is a compare-and-swap: a socket is in its
//! slot before that slot is shown, and who saw another range than the lane has now shows nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsFd;

use inlet_core::{Protocol, ServiceId, Services};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::error::{Error, Result};
use crate::kernel::raw::Words;
use crate::state::{LANES_PER_SERVICE, Maps};

/// How many sockets a lane has room for (`LANE_MAX`).
pub(crate) const LANE_MAX: u32 = 4096;

const OWNED_SHIFT: u32 = 24;
const SHOWN_SHIFT: u32 = 40;
const COUNT_MASK: u64 = 0xffff;
const FIRST_MASK: u64 = (1 << OWNED_SHIFT) - 1;
const RETIRED: u64 = 1 << 63;

/// The word of a lane: its range of slots, and how many of them are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn new(slots: &Range<u32>, shown: u32) -> Self {
        let owned = u64::from(slots.end - slots.start) << OWNED_SHIFT;
        Self(u64::from(slots.start) | owned | u64::from(shown) << SHOWN_SHIFT)
    }

    /// The slots that the lane owns.
    pub(crate) fn slots(self) -> Range<u32> {
        let first = (self.0 & FIRST_MASK) as u32;
        first..first + (self.0 >> OWNED_SHIFT & COUNT_MASK) as u32
    }

    /// How many of them are shown, the first ones.
    pub(crate) fn shown(self) -> u32 {
        (self.0 >> SHOWN_SHIFT & COUNT_MASK) as u32
    }

    /// Whether the range is on its way back: packets and listeners may still know it.
    pub(crate) fn is_retired(self) -> bool {
        self.0 & RETIRED != 0
    }

    /// The slots that packets go to.
    fn shown_slots(self) -> Range<u32> {
        let slots = self.slots();
        if self.is_retired() { 0..0 } else { slots.start..slots.start + self.shown().min(slots.end - slots.start) }
    }

    fn retired(self) -> Self {
        Self(Self::new(&self.slots(), 0).0 | RETIRED)
    }
}

/// One lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(usize);

/// A slot in the map of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    pub(crate) fn all(slots: Range<u32>) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        slots.map(Self)
    }
}

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
    /// Service 0 is none. Its lanes tell of a move that is under way: the range that a lane moves to, and the one that it moves
    /// from. Both are marked as retired, so that whoever comes after a crash gives back the one that is not in use.
    pub(crate) const MOVES_TO: Self = Self(0);
    pub(crate) const MOVES_FROM: Self = Self(1);

    pub(crate) fn of(service: ServiceId, protocol: Protocol, v6: bool) -> Self {
        let in_service = usize::from(v6) * 2 + usize::from(protocol == Protocol::Udp);
        Self(usize::from(service.get()) * LANES_PER_SERVICE as usize + in_service)
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

    /// The lane of this number, which is the same in all formats of the state.
    pub(crate) fn numbered(number: usize) -> Self {
        Self(number)
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

    /// Only so many of them.
    fn map_first(lanes: &MapHandle, count: usize) -> Result<Self> {
        Words::map(lanes.as_fd(), count).map(Self).map_err(Error::os("map", "the lanes of sockets"))
    }

    pub(crate) fn word(&self, lane: Lane) -> Word {
        Word(self.0.load(lane.0))
    }

    /// The slots that a lane owns, shown or not. One that is retired owns none any more.
    pub(crate) fn slots(&self, lane: Lane) -> Range<u32> {
        let word = self.word(lane);
        if word.is_retired() { 0..0 } else { word.slots() }
    }

    /// The lanes that have slots, retired ones too.
    pub(crate) fn used(&self) -> impl Iterator<Item = (Lane, Word)> {
        let all = (0..self.0.len()).map(Lane);
        all.map(|lane| (lane, self.word(lane))).filter(|(_, word)| !word.slots().is_empty())
    }

    /// Puts one word in the place of another; `false` when the kernel changed it meanwhile.
    pub(crate) fn replace(&self, lane: Lane, old: Word, new: Word) -> bool {
        self.0.replace(lane.0, old.0, new.0)
    }

    /// Changes the word of a lane; `None` of `change` leaves it.
    fn change(&self, lane: Lane, change: impl Fn(Word) -> Option<Word>) -> bool {
        loop {
            let old = self.word(lane);
            match change(old) {
                None => return false,
                Some(new) if new == old || self.replace(lane, old, new) => return true,
                Some(_) => {}
            }
        }
    }

    /// Gives a range to a lane that has none.
    pub(crate) fn give(&self, lane: Lane, slots: &Range<u32>) {
        self.0.store(lane.0, Word::new(slots, 0).0);
    }

    /// Lets the range of a lane end elsewhere: slots that nobody owns join it, or its last ones go.
    pub(crate) fn resize(&self, lane: Lane, end: u32) {
        self.change(lane, |word| {
            let start = word.slots().start;
            Some(Word::new(&(start..end), word.shown().min(end - start)))
        });
    }

    /// Shows a slot of a lane, and those before it. `false` when the lane does not own it any more.
    pub(crate) fn show(&self, lane: Lane, slot: Slot) -> bool {
        self.change(lane, |word| {
            let slots = word.slots();
            let owned = !word.is_retired() && slots.contains(&slot.0);
            owned.then(|| Word::new(&slots, word.shown().max(slot.0 - slots.start + 1)))
        })
    }

    /// Shows no more slots than up to the last one that has a socket.
    pub(crate) fn hide_empty_end(&self, lane: Lane, has_socket: impl Fn(Slot) -> Result<bool>) -> Result<()> {
        let before = self.word(lane);
        let last = || -> Result<Option<Slot>> {
            for slot in Slot::all(before.shown_slots()).rev() {
                if has_socket(slot)? {
                    return Ok(Some(slot));
                }
            }
            Ok(None)
        };
        let shown = last()?.map_or(0, |slot| slot.0 - before.slots().start + 1);
        // Not when the kernel has shown another one meanwhile.
        if !before.is_retired() && self.replace(lane, before, Word::new(&before.slots(), shown)) {
            // It may also have put one into a slot that it still saw shown.
            if let Some(slot) = last()? {
                self.show(lane, slot);
            }
        }
        Ok(())
    }

    /// Marks a lane as retired: from now on packets get nothing from it, and nobody puts anything there.
    pub(crate) fn retire(&self, lane: Lane) {
        self.change(lane, |word| (!word.slots().is_empty()).then(|| word.retired()));
    }

    /// Writes down a range of a move, as retired.
    pub(crate) fn note(&self, lane: Lane, slots: &Range<u32>) {
        self.0.store(lane.0, Word::new(slots, 0).retired().0);
    }

    /// Takes the range of a lane away.
    pub(crate) fn clear(&self, lane: Lane) {
        self.0.store(lane.0, 0);
    }
}

/// The lanes of an instance for those who only look at them: many in memory, or, when they are few or may not be written,
/// each one copied when it is asked for.
pub(crate) struct LaneReader<'a> {
    maps: &'a Maps,
    mapped: Option<Lanes>,
}

impl<'a> LaneReader<'a> {
    /// For those of all these services.
    pub(crate) fn of(maps: &'a Maps, services: &Services) -> Self {
        let after = services.iter().map(|(id, _)| usize::from(id.get()) + 1).max();
        let count = after.unwrap_or(1) * LANES_PER_SERVICE as usize;
        Self { maps, mapped: Lanes::map_first(&maps.lanes, count).ok() }
    }

    /// The slots of a lane that are shown.
    fn slots(&self, lane: Lane) -> Result<Range<u32>> {
        let word = self.mapped.as_ref().map_or_else(|| self.copied(lane), |lanes| Ok(lanes.word(lane)))?;
        Ok(word.shown_slots())
    }

    fn copied(&self, lane: Lane) -> Result<Word> {
        let value = self.maps.lanes.lookup(&(lane.0 as u32).to_ne_bytes(), MapFlags::ANY);
        let bytes = value.map_err(Error::os("read", format!("lane {}", lane.0)))?.unwrap_or_default();
        Ok(Word(bytes.try_into().map_or(0, u64::from_ne_bytes)))
    }

    /// The live sockets of a service.
    pub(crate) fn live(&self, service: ServiceId) -> Result<Vec<LiveSocket>> {
        let mut live: Vec<LiveSocket> = Vec::new();
        let mut known: HashMap<u64, usize> = HashMap::new();
        for (number, lane) in Lane::all(service).into_iter().enumerate() {
            let v6 = number >= 2;
            for slot in Slot::all(self.slots(lane)?) {
                let Some(cookie) = cookie_in(&self.maps.sockets, slot)? else { continue };
                let at = *known.entry(cookie).or_insert(live.len());
                match live.get_mut(at) {
                    Some(socket) => (socket.v4, socket.v6) = (socket.v4 || !v6, socket.v6 || v6),
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

/// The live sockets of a range, by slot.
pub(crate) fn sockets_in(sockets: &MapHandle, slots: Range<u32>) -> Result<Vec<(Slot, u64)>> {
    let mut found = Vec::new();
    for slot in Slot::all(slots) {
        found.extend(cookie_in(sockets, slot)?.map(|cookie| (slot, cookie)));
    }
    Ok(found)
}

/// Empties a slot. One whose socket closed is empty already.
pub(crate) fn empty(sockets: &MapHandle, slot: Slot) {
    let _ = sockets.delete(&slot.0.to_ne_bytes());
}
