//! The maps by which flows over UDP stay on their sockets.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inlet_core::ServiceId;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::answer_files::AnswerFiles;
use super::flow_table::{FlowTable, copy_entries, entries, map_id};
use super::map::{Access, create, create_keyed, open_map};
use super::pins::is_there;
use super::readers::Readers;
use super::stay::{FlowEnds, Stay};
use super::sticky_files::StickyFiles;
use crate::bpf::steer::types;
use crate::error::{Cause, Error, Result};
use crate::fault;
use crate::kernel::raw;

/// How many sockets can be drained at a time.
pub(super) const MAX_LEAVING: u32 = 4096;

/// The maps of flows that stay.
#[derive(Debug)]
pub(crate) struct StickyMaps {
    pub(crate) stays: MapHandle,
    pub(crate) leaving: MapHandle,
    /// An instance of an earlier version has none until the next socket is drained.
    pub(super) drained_from: Option<MapHandle>,
    pub(crate) counts: MapHandle,
}

impl StickyMaps {
    /// Opens the maps where they are pinned, and makes those that are not.
    pub(crate) fn ensure(files: &StickyFiles, max_flows: u32, readers: Readers) -> Result<Self> {
        match std::fs::create_dir(&files.0) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::at("make", &files.0)(cause));
            }
            _ => {}
        }
        fault::point("sticky:directory");
        readers.admit_to_dir(&files.0)?;
        let kept = |path: &Path, make: &dyn Fn() -> Result<MapHandle>| {
            if is_there(path)? {
                // Who made it may have been killed before the readers were let in.
                readers.admit_to_map(path)?;
                return open_map(path, Access::Write);
            }
            let map = make()?;
            raw::pin(map.as_fd(), path).map_err(Error::at("pin", path))?;
            fault::point("sticky:map");
            readers.admit_to_map(path)?;
            Ok(map)
        };
        let stay = [size_of::<types::flow>() as u32, size_of::<types::stay>() as u32];
        if !is_there(&files.before())? && Self::differ(files, max_flows)? {
            std::fs::rename(files.stays(), files.before()).map_err(Error::at("rename", &files.stays()))?;
            fault::point("sticky:before");
        }
        let maps = Self {
            stays: kept(&files.stays(), &|| create_keyed("inlet_stays", MapType::LruHash, stay, max_flows, 0))?,
            leaving: kept(&files.leaving(), &|| create("inlet_leaving", MapType::Sockmap, 8, MAX_LEAVING, 0))?,
            drained_from: Some(kept(&files.drained_from(), &|| {
                create("inlet_drained", MapType::Array, 4, MAX_LEAVING, 0)
            })?),
            counts: kept(&files.counts(), &|| create("inlet_stay_counts", MapType::Array, 8, COUNTS, 0))?,
        };
        if is_there(&files.before())? {
            copy_entries(&open_map(&files.before(), Access::Read)?, &maps.stays)?;
        }
        Ok(maps)
    }

    /// Whether there is a table of another size than it should have.
    pub(crate) fn differ(files: &StickyFiles, max_flows: u32) -> Result<bool> {
        Ok(is_there(&files.stays())? && open_map(&files.stays(), Access::Read)?.max_entries() != max_flows)
    }

    /// Removes the table of another size; or the new one, when `used`, the number of the one in force, is not its.
    pub(crate) fn finish_resize(files: &StickyFiles, used: Option<u32>) -> Result<()> {
        if !is_there(&files.before())? {
            return Ok(());
        }
        let before = open_map(&files.before(), Access::Read)?;
        if Some(map_id(&before)?) == used {
            return std::fs::rename(files.before(), files.stays()).map_err(Error::at("rename", &files.before()));
        }
        if is_there(&files.stays())? {
            copy_entries(&before, &open_map(&files.stays(), Access::Write)?)?;
        }
        std::fs::remove_file(files.before()).map_err(Error::at("remove", &files.before()))
    }

    /// How full the table is.
    pub(crate) fn table(&self) -> Result<FlowTable> {
        let (made, removed) = (types::stay_count::STAYS_MADE, types::stay_count::STAYS_REMOVED);
        FlowTable::of(&self.stays, self.count(made)?.saturating_sub(self.count(removed)?))
    }

    /// Forgets where flows of services stay, so that their numbers can be used anew.
    pub(crate) fn retire(&self, services: &[ServiceId]) -> Result<()> {
        let is_of = |stay: &Stay| services.iter().any(|id| id.get() == stay.service);
        let gone = stays_in(&self.stays)?;
        for stay in gone.iter().filter(|stay| is_of(stay)) {
            // One that is gone already was forgotten by the kernel.
            if self.stays.delete(&stay.ends.to_bytes()).is_ok() {
                let removed = self.count(types::stay_count::STAYS_REMOVED)?;
                self.set_count(types::stay_count::STAYS_REMOVED, removed + 1)?;
            }
        }
        self.drained_from_none(services)
    }

    pub(crate) fn count(&self, which: types::stay_count) -> Result<u64> {
        let value = self.counts.lookup(&which.0.to_ne_bytes(), MapFlags::ANY).map_err(unread())?;
        Ok(value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_ne_bytes))
    }

    pub(super) fn set_count(&self, which: types::stay_count, count: u64) -> Result<()> {
        let key = which.0.to_ne_bytes();
        let set = self.counts.update(&key, &count.to_ne_bytes(), MapFlags::ANY);
        set.map_err(Error::os("write", "the counts of flows that stay"))
    }
}

/// All flows that stay, in no order.
fn stays_in(stays: &MapHandle) -> Result<Vec<Stay>> {
    Ok(entries(stays)?.filter_map(|(key, value)| Stay::of(&key, &value)).collect())
}

const COUNTS: u32 = types::stay_count::STAY_COUNTS.0;

/// The flows that stay, for those who look.
#[derive(Debug)]
pub(crate) struct Stays {
    pub(crate) maps: StickyMaps,
    /// What the lookup notes of flows whose answers leave as asked: when the last answer was sent.
    notes: Option<MapHandle>,
}

impl Stays {
    /// Opens them; `None` where no flow stays.
    pub(crate) fn open(sticky: &StickyFiles, answers: &AnswerFiles, access: Access) -> Result<Option<Self>> {
        if !sticky.are_there()? || !is_there(&sticky.stays())? {
            return Ok(None);
        }
        let open = |path: PathBuf| open_map(&path, access);
        let maps = StickyMaps {
            stays: open(sticky.stays())?,
            leaving: open(sticky.leaving())?,
            drained_from: if is_there(&sticky.drained_from())? { Some(open(sticky.drained_from())?) } else { None },
            counts: open(sticky.counts())?,
        };
        let notes = if is_there(&answers.flows())? { Some(open(answers.flows())?) } else { None };
        Ok(Some(Self { maps, notes }))
    }

    /// The flow of these ends.
    pub(crate) fn get(&self, ends: FlowEnds) -> Result<Option<Stay>> {
        let key = ends.to_bytes();
        let value = self.maps.stays.lookup(&key, MapFlags::ANY).map_err(unread())?;
        Ok(value.and_then(|value| Stay::of(&key, &value)))
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Result<Vec<Stay>> {
        stays_in(&self.maps.stays)
    }

    /// When a flow was seen last in one direction or the other, by where its socket is bound.
    pub(crate) fn last_seen(&self, stay: &Stay, bound: SocketAddr) -> Result<Duration> {
        let Some(notes) = &self.notes else { return Ok(stay.seen) };
        let ip = match (stay.ends.remote.ip(), bound.ip().to_canonical()) {
            (IpAddr::V4(_), IpAddr::V6(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (_, ip) => ip,
        };
        let ends = FlowEnds { own: SocketAddr::new(ip, bound.port()), ..stay.ends };
        let value = notes.lookup(&ends.to_bytes(), MapFlags::ANY).map_err(unread())?;
        let at = offset_of!(types::asked, sent);
        let sent = value.and_then(|value| Some(u64::from_ne_bytes(value.get(at..at + 8)?.try_into().ok()?)));
        Ok(sent.map_or(stay.seen, |sent| Duration::from_nanos(sent).max(stay.seen)))
    }
}

pub(super) fn unread<E: Cause>() -> impl FnOnce(E) -> Error {
    Error::os("read", "the flows that stay")
}

/// The time by which flows are seen: it never jumps, and stands still while the machine sleeps.
pub(crate) fn flow_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    Duration::new(tv_sec.unsigned_abs(), tv_nsec.unsigned_abs() as u32)
}
