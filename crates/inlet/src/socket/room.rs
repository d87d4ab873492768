//! Room: lanes get ranges of slots, longer ones when they need them, and give back what they do not.
//!
//! A range gets another owner only after a grace period (`wait_for_packets`), in which its slots are emptied: a packet
//! or a listener that still knows the range finds its own sockets there, or none. What is on its way back is marked as
//! retired in the map of lanes itself, so that a crash loses nothing of this: [`finish`] goes on where it ended.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use libbpf_rs::MapCore;

use super::free::Free;
use super::lanes::{LANE_MAX, Lane, Lanes, Slot, Word, cookie_in, empty, sockets_in};
use super::moving;
use crate::error::Result;
use crate::fault;
use crate::state::{Maps, wait_for_packets};

/// How many slots a lane gets at least, while there are so many: the pointers of a cache line.
const LEAST: u32 = 8;

/// A lane for listeners that the kernel puts in by itself gets this part of all free slots.
const SHARE: u32 = 8;

/// No slots are left, whatever is taken away from lanes that do not use theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Where lanes get their ranges from.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    maps: &'a Maps,
    lanes: &'a Lanes,
    free: Free,
    /// How many slots lanes were asked to have, which must not be taken from them again.
    asked: HashMap<Lane, u32>,
}

impl<'a> Room<'a> {
    /// Looks at all lanes, and gives back first what an earlier command left to be given back.
    pub(crate) fn of(maps: &'a Maps, lanes: &'a Lanes) -> Result<Self> {
        finish(maps, lanes)?;
        let mut room = Self { maps, lanes, free: Free::of(0, []), asked: HashMap::new() };
        room.look();
        Ok(room)
    }

    fn look(&mut self) {
        let taken = self.lanes.used().map(|(_, word)| word.slots());
        self.free = Free::of(self.maps.sockets.max_entries(), taken);
    }

    /// Makes a lane own at least so many slots.
    pub(crate) fn enlarge(&mut self, lane: Lane, least: u32) -> Result<std::result::Result<(), NoRoom>> {
        let most = least.next_power_of_two().clamp(LEAST, LANE_MAX);
        self.enlarge_to(lane, least, most)
    }

    /// Makes a lane own as many slots as it may need, so that the kernel can put listeners there by itself.
    pub(crate) fn reserve(&mut self, lane: Lane) -> Result<std::result::Result<(), NoRoom>> {
        let owned = self.lanes.slots(lane).len() as u32;
        let share = (self.free.count() / SHARE).clamp(LEAST, LANE_MAX);
        // One of another size is as good: it grows when somebody looks and it is short.
        if owned >= LEAST.max(share / 2) { Ok(Ok(())) } else { self.enlarge_to(lane, owned.max(LEAST), share) }
    }

    fn enlarge_to(&mut self, lane: Lane, least: u32, most: u32) -> Result<std::result::Result<(), NoRoom>> {
        let most = most.max(least);
        let has = |room: &Self| room.lanes.slots(lane).len() as u32 >= most;
        if !has(self) && !self.try_enlarge(lane, least, most)? {
            self.trim()?;
            if !self.try_enlarge(lane, least, most)? {
                return Ok(Err(NoRoom));
            }
        }
        self.asked.insert(lane, least);
        Ok(Ok(()))
    }

    fn try_enlarge(&mut self, lane: Lane, least: u32, most: u32) -> Result<bool> {
        let slots = self.lanes.slots(lane);
        if !slots.is_empty()
            && let Some(end) = self.free.extend(&slots, slots.start + least, slots.start + most)
        {
            self.lanes.resize(lane, end);
            return Ok(true);
        }
        let Some(range) = self.free.take(least, most) else { return Ok(slots.len() as u32 >= least) };
        match slots.is_empty() {
            true => self.lanes.give(lane, &range),
            false => {
                self.relocate(lane, &range)?;
                self.look();
            }
        }
        Ok(self.lanes.slots(lane).len() as u32 >= least)
    }

    /// Takes from lanes what they do not use: the empty end of their ranges, and then, where at most half of one is
    /// used, all of it for a shorter one.
    fn trim(&mut self) -> Result<()> {
        let lanes: Vec<(Lane, Word)> = self.lanes.used().filter(|(_, word)| !word.is_retired()).collect();
        let mut ends = Vec::new();
        for (lane, word) in &lanes {
            let slots = word.slots();
            let last = self.last_used(&slots)?.map_or(slots.start, |slot| slot.0 + 1);
            // A listener may come at any time: a slot stays.
            let asked = self.asked.get(lane).copied().unwrap_or(1);
            let end = last.max(slots.start + word.shown()).max(slots.start + asked).min(slots.end);
            if end < slots.end {
                self.lanes.resize(*lane, end);
                ends.push(end..slots.end);
            }
        }
        wait_for_packets()?;
        // Who put a socket there meanwhile could not show it, and has put it elsewhere.
        ends.into_iter().flat_map(Slot::all).for_each(|slot| empty(&self.maps.sockets, slot));
        self.look();
        for (lane, _) in lanes {
            let slots = self.lanes.slots(lane);
            let used = sockets_in(&self.maps.sockets, slots.clone())?.len() as u32;
            // Some room for listeners that come while it moves.
            let shorter = (used + LEAST).max(self.asked.get(&lane).copied().unwrap_or(0));
            if shorter * 2 <= slots.len() as u32
                && let Some(range) = self.free.take(shorter, shorter)
            {
                self.relocate(lane, &range)?;
                self.look();
            }
        }
        Ok(())
    }

    fn last_used(&self, slots: &Range<u32>) -> Result<Option<Slot>> {
        for slot in Slot::all(slots.clone()).rev() {
            if cookie_in(&self.maps.sockets, slot)?.is_some() {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Moves a lane with its sockets to another range, which nobody owns. Packets do not notice: the sockets are in
    /// their new slots before the lane is. When they do not fit there, because listeners have come meanwhile, the lane
    /// stays.
    fn relocate(&self, lane: Lane, to: &Range<u32>) -> Result<()> {
        let (maps, lanes) = (self.maps, self.lanes);
        lanes.note(Lane::MOVES_TO, to);
        fault::point("move:noted");
        let from = loop {
            let word = lanes.word(lane);
            let Some(shown) = self.copy(&word, to)? else { return finish(maps, lanes) };
            lanes.note(Lane::MOVES_FROM, &word.slots());
            fault::point("move:copied");
            // From here on packets find the sockets in the new range.
            if lanes.replace(lane, word, Word::new(to, shown)) {
                break word.slots();
            }
        };
        fault::point("move:swapped");
        // A listener that came before the swap and after the copy is in the old range only.
        wait_for_packets()?;
        let late = self.copy(&Word::new(&from, from.len() as u32), to)?;
        if let Some(last) = late.unwrap_or(0).checked_sub(1) {
            lanes.show(lane, Slot(to.start + last));
        }
        fault::point("move:late");
        Slot::all(from).for_each(|slot| empty(&maps.sockets, slot));
        lanes.clear(Lane::MOVES_FROM);
        lanes.clear(Lane::MOVES_TO);
        Ok(())
    }

    /// Copies the sockets of a range that are not in the other one yet, behind those that are. Gives how many slots of
    /// that one the shown sockets reach over, or `None` when they do not fit.
    fn copy(&self, word: &Word, to: &Range<u32>) -> Result<Option<u32>> {
        let there: BTreeSet<(Slot, u64)> = sockets_in(&self.maps.sockets, to.clone())?.into_iter().collect();
        let mut next = there.last().map_or(to.start, |(slot, _)| slot.0 + 1);
        let known: BTreeSet<u64> = there.iter().map(|(_, cookie)| *cookie).collect();
        let hidden = word.slots().start + word.shown();
        let (mut copies, mut shown) = (Vec::new(), next - to.start);
        for (slot, cookie) in sockets_in(&self.maps.sockets, word.slots())? {
            if known.contains(&cookie) {
                continue;
            }
            if next >= to.end {
                return Ok(None);
            }
            copies.push((slot, Slot(next)));
            next += 1;
            if slot.0 < hidden {
                shown = next - to.start;
            }
        }
        moving::copy(&self.maps.sockets, &self.maps.sockets, &copies)?;
        Ok(Some(shown))
    }
}

/// Gives back the ranges that are marked as retired.
pub(crate) fn finish(maps: &Maps, lanes: &Lanes) -> Result<()> {
    let retired: Vec<(Lane, Word)> = lanes.used().filter(|(_, word)| word.is_retired()).collect();
    if retired.is_empty() {
        return Ok(());
    }
    let in_use: BTreeSet<u32> =
        lanes.used().filter(|(_, word)| !word.is_retired()).map(|(_, word)| word.slots().start).collect();
    wait_for_packets()?;
    for (lane, word) in retired {
        // Of the two ranges of a move one is in use, whatever became of it.
        if !in_use.contains(&word.slots().start) {
            Slot::all(word.slots()).for_each(|slot| empty(&maps.sockets, slot));
            fault::point("slots:emptied");
        }
        lanes.clear(lane);
    }
    Ok(())
}
