//! An instance of an earlier version becomes one of this version, while packets go on being steered.
//!
//! All that this version needs is made aside, in `next-COOKIE`: maps with the same sockets, the ruleset compiled anew, and
//! a second pin of the link. The update of the link puts it in force. Then the two directories change places, and what
//! the earlier version made goes.
//!
//! After a crash the link tells which of the two is in force: see [`settle`].

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use libbpf_rs::MapHandle;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Instance;
use crate::described::remove_programs;
use crate::error::{Error, Result, SocketError};
use crate::fault;
use crate::kernel::{Capability, capability, raw};
use crate::program::{Attachments, Generation, SharedMaps, begin};
use crate::socket::{Lane, Lanes, Room, Slot, copy_sockets};
use crate::state::{
    Access, Exclusive, Files, GenerationFiles, Location, Maps, Older, Readers, default_own_ports, generations,
    is_there, open_link, open_map, read_ruleset, remove_all,
};

/// Takes over what an earlier version made, where the instance is of one. Also tells whether something of it is left:
/// it goes with [`clear`], once the instance has all that it needs.
pub(super) fn take_over(location: &Location, lock: Exclusive) -> Result<(Exclusive, bool)> {
    let lock = settle(location, lock)?;
    let Some(older) = Older::open(&Files(location.dir()))? else {
        return Ok((lock, is_there(&location.being_taken_over())?));
    };
    let needed = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
    capability::require("taking over what an earlier version made", &needed)?;
    // Of an attempt that was interrupted before its commit point.
    clear(location)?;
    let next = Files(location.being_taken_over());
    let made = make(location, &older, &next);
    let put = made.and_then(|(link, generation)| {
        fault::point("takeover:made");
        // The commit point: packets before this call see the maps of the earlier version, packets after it the new ones.
        raw::link_update(link.as_fd(), generation.program.as_fd()).map_err(Error::at("update", &next.link()))
    });
    if let Err(reason) = put {
        clear(location)?;
        return Err(reason);
    }
    fault::point("takeover:swapped");
    Ok((exchange(location, lock)?, true))
}

/// Lets the two directories change places when the link runs the program of the other one.
fn settle(location: &Location, lock: Exclusive) -> Result<Exclusive> {
    let next = Files(location.being_taken_over());
    if !is_there(&next.0)? || !is_there(&next.link())? {
        return Ok(lock);
    }
    let link = open_link(&Files(location.dir()))?;
    match generations(&next, link.as_fd()) {
        Ok(_) => exchange(location, lock),
        // The program is one of the instance, or somebody else's.
        Err(_) => Ok(lock),
    }
}

/// The new instance is where everybody looks for it, and locked before anybody can.
fn exchange(location: &Location, lock: Exclusive) -> Result<Exclusive> {
    let (dir, next) = (location.dir(), location.being_taken_over());
    let new = Exclusive::on(&next)?.ok_or_else(|| location.not_up())?;
    renameat_with(CWD, &next, CWD, &dir, RenameFlags::EXCHANGE).map_err(Error::at("publish", &dir))?;
    drop(lock);
    fault::point("takeover:exchanged");
    Ok(new)
}

/// Removes what is aside. The link that is pinned there too goes on with its other pin.
pub(super) fn clear(location: &Location) -> Result<()> {
    let next = Files(location.being_taken_over());
    if !is_there(&next.0)? {
        return Ok(());
    }
    remove_programs(&next.described())?;
    remove_all(&next.0)
}

/// Makes an instance of this version with the ruleset, the sockets and the counters of the one that there is.
fn make(location: &Location, older: &Older, next: &Files) -> Result<(OwnedFd, Generation)> {
    let dir = Files(location.dir());
    let link = open_link(&dir)?;
    let found = generations(&dir, link.as_fd())?;
    let former = dir.generation(found.in_force);
    let ruleset = read_ruleset(&former.image())?;
    let readers = Readers::of(&dir.0)?;
    std::fs::create_dir(&next.0).map_err(Error::at("make", &next.0))?;
    readers.admit_to_dir(&next.0)?;
    let counters = MapHandle::try_from(&older.counters).map_err(Error::os("keep", "the counters"))?;
    let maps = Maps::create(next, (older.max_sockets(), default_own_ports()), readers, Some(counters))?;
    // No earlier version had rules with marks, nor did it note where flows ask.
    let generation = Generation::load(&ruleset, &maps, SharedMaps::default())?;
    let files = next.generation(found.in_force + 1);
    begin(&files, readers)?;
    generation.pin(&attachments(&former)?, &files, readers)?;
    raw::pin(link.as_fd(), &next.link()).map_err(Error::at("pin", &next.link()))?;
    move_in(older, &maps)?;
    Ok((link, generation))
}

/// What stays beside the generation: the way back, and by when it has to be confirmed.
fn attachments(former: &GenerationFiles) -> Result<Attachments> {
    let open = |path: PathBuf| is_there(&path)?.then(|| open_map(&path, Access::Write)).transpose();
    Ok(Attachments {
        keeps_routes: former.keeps_routes()?,
        previous: open(former.previous())?,
        kept_routes: is_there(&former.kept_routes())?,
        deadline: open(former.deadline())?,
    })
}

/// Puts the sockets that packets go to into the lanes of the same services.
fn move_in(older: &Older, maps: &Maps) -> Result<()> {
    let lanes = Lanes::map(&maps.lanes)?;
    let mut room = Room::of(maps, &lanes)?;
    let mut copies = Vec::new();
    let mut shown = Vec::new();
    for (number, slots) in older.shown()? {
        let lane = Lane::numbered(number);
        let full = |_| SocketError::TooManySockets(maps.max_sockets());
        room.enlarge(lane, slots.len() as u32)?.map_err(full)?;
        shown.push((lane, slots));
    }
    for (lane, slots) in &shown {
        let to = Slot::all(lanes.slots(*lane));
        copies.extend(slots.iter().map(|slot| Slot(*slot)).zip(to));
    }
    copy_sockets(&older.sockets, &maps.sockets, &copies)?;
    for (lane, slots) in shown {
        lanes.show(lane, Slot(lanes.slots(lane).start + slots.len() as u32 - 1));
    }
    Ok(())
}

impl Instance {
    /// After what an earlier version left has been taken over: the new programs find described sockets, and then those of
    /// the earlier version go.
    pub(super) fn end_takeover(&mut self) {
        if self.unfinished {
            return;
        }
        if let Err(error) = clear(&self.location) {
            self.without.push(error);
        }
    }
}
