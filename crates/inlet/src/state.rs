//! The maps that outlive generations, and the mark of the state format.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use inlet_core::{MAX_SERVICES, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use crate::bpf::steer::types;
use crate::error::{Cause, Error, Result};
use crate::group::Readers;
use crate::kernel::raw;
use crate::layout::Files;
use crate::snapshot::Counters;

/// The number of the state format. An instance of a higher number was made by a newer version.
const STATE_FORMAT: u32 = 2;

/// How many lanes a service has: two protocols, two families.
pub(crate) const LANES_PER_SERVICE: u32 = 4;

/// How many bytes of binds may wait for the watcher; a power of 2 of at least a page.
const BINDS_BYTES: u32 = 1 << 16;

/// How often a map is tried to be frozen, and how long nothing is done after each time.
const FREEZE_TRIES: u32 = 1000;
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// A dual-stack socket has a slot in the lane of each family.
const SLOTS_PER_SOCKET: u32 = 2;

/// The maps of an instance.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) sockets: MapHandle,
    pub(crate) lanes: MapHandle,
    pub(crate) counters: MapHandle,
    /// The ports of binds, for the watcher.
    pub(crate) binds: MapHandle,
}

/// How the maps of an instance are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Maps {
    /// Makes new maps, which are gone with what is returned.
    pub(crate) fn unpinned(max_sockets: u32) -> Result<Self> {
        let lanes = u32::from(MAX_SERVICES) * LANES_PER_SERVICE;
        Ok(Self {
            sockets: create("inlet_sockets", MapType::Sockmap, 8, max_sockets * SLOTS_PER_SOCKET, 0)?,
            lanes: create(
                "inlet_lanes",
                MapType::Array,
                size_of::<types::lane>() as u32,
                lanes,
                libbpf_sys::BPF_F_MMAPABLE,
            )?,
            counters: create(
                "inlet_counters",
                MapType::PercpuArray,
                size_of::<types::counters>() as u32,
                MAX_SERVICES.into(),
                0,
            )?,
            binds: create_keyed("inlet_binds", MapType::RingBuf, [0, 0], BINDS_BYTES, 0)?,
        })
    }

    /// Makes new maps and pins them.
    pub(crate) fn create(files: &Files, max_sockets: u32, readers: Readers) -> Result<Self> {
        let meta = create("inlet_meta", MapType::Array, 4, 1, 0)?;
        meta.update(&0_u32.to_ne_bytes(), &STATE_FORMAT.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::os("write", "the map of the state format"))?;
        let maps = Self::unpinned(max_sockets)?;
        let pins = [
            (&meta, files.meta()),
            (&maps.sockets, files.sockets()),
            (&maps.lanes, files.lanes()),
            (&maps.counters, files.counters()),
            (&maps.binds, files.binds()),
        ];
        for (map, path) in pins {
            raw::pin(map.as_fd(), &path).map_err(Error::at("pin", &path))?;
            crate::fault::point("up:map");
            readers.admit_to_map(&path)?;
        }
        std::fs::create_dir(files.watch()).map_err(Error::at("make", &files.watch()))?;
        readers.admit_to_dir(&files.watch())?;
        Ok(maps)
    }

    /// Opens the maps of an instance, after a look at its format.
    pub(crate) fn open(files: &Files, access: Access) -> Result<Self> {
        let meta = open_map(&files.meta(), Access::Read)?;
        let value = meta.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(Error::at("read", &files.meta()))?;
        let found = value.and_then(|value| value.try_into().ok()).map_or(u32::MAX, u32::from_ne_bytes);
        if found < STATE_FORMAT {
            return Err(Error::OlderState { path: files.0.clone(), found, known: STATE_FORMAT });
        }
        if found > STATE_FORMAT {
            return Err(Error::NewerState { path: files.0.clone(), found, known: STATE_FORMAT });
        }
        Ok(Self {
            sockets: open_map(&files.sockets(), access)?,
            lanes: open_map(&files.lanes(), access)?,
            counters: open_map(&files.counters(), access)?,
            binds: open_map(&files.binds(), access)?,
        })
    }

    /// How many sockets fit, whatever their kind.
    pub(crate) fn max_sockets(&self) -> u32 {
        self.sockets.max_entries() / SLOTS_PER_SOCKET
    }

    /// The counters of a service, or those of rules without one (`None`), summed over the processors.
    pub(crate) fn counters(&self, service: Option<ServiceId>) -> Result<Counters> {
        let number = service.map_or(0, |id| u32::from(id.get()));
        let per_cpu = self
            .counters
            .lookup_percpu(&number.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::os("read", format!("the counters of service {number}")))?;
        let field = |value: &[u8], offset: usize| {
            value.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
        };
        let mut sum = Counters::default();
        for value in per_cpu.unwrap_or_default() {
            sum.steered += field(&value, offset_of!(types::counters, steered));
            sum.missing += field(&value, offset_of!(types::counters, missing));
            sum.bad_socket += field(&value, offset_of!(types::counters, bad_socket));
            sum.refused += field(&value, offset_of!(types::counters, refused));
        }
        Ok(sum)
    }

    /// Sets the counters of a service to 0.
    pub(crate) fn clear_counters(&self, service: ServiceId) -> Result<()> {
        let cpus = libbpf_rs::num_possible_cpus().map_err(Error::os("count", "processors"))?;
        let zeros = vec![vec![0; size_of::<types::counters>()]; cpus];
        let key = u32::from(service.get()).to_ne_bytes();
        self.counters
            .update_percpu(&key, &zeros, MapFlags::ANY)
            .map_err(Error::os("clear", format!("the counters of service {}", service.get())))
    }
}

/// Waits until every program that runs now has ended, so that what they may have read can be used anew. An update of a
/// map in a map waits for just that (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
pub(crate) fn wait_for_packets() -> Result<()> {
    use std::os::fd::AsRawFd;
    let inner = create("inlet_inner", MapType::Array, 4, 1, 0)?;
    let mut opts = options(0);
    opts.inner_map_fd = inner.as_fd().as_raw_fd() as u32;
    let outer = MapHandle::create(MapType::ArrayOfMaps, Some("inlet_outer"), 4, 4, 1, &opts)
        .map_err(Error::os("create map", "inlet_outer"))?;
    let value = inner.as_fd().as_raw_fd().to_ne_bytes();
    outer.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY).map_err(Error::os("wait for", "packets on their way"))
}

fn options(flags: u32) -> libbpf_sys::bpf_map_create_opts {
    libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    }
}

/// Makes a map with 32-bit keys.
pub(crate) fn create(name: &'static str, kind: MapType, value: u32, entries: u32, flags: u32) -> Result<MapHandle> {
    create_keyed(name, kind, [4, value], entries, flags)
}

/// Makes a map of one value, so many words long, which nobody can change any more once it is filled.
pub(crate) fn create_frozen(name: &'static str, words: usize, fill: impl FnOnce(&mut [u32])) -> Result<MapHandle> {
    let bytes = u32::try_from(words * size_of::<u32>()).map_err(|_| io::ErrorKind::FileTooLarge.into());
    let bytes = bytes.map_err(Error::os::<io::Error>("create map", name))?;
    let map = create(name, MapType::Array, bytes, 1, libbpf_sys::BPF_F_MMAPABLE)?;
    raw::fill(map.as_fd(), words, fill).map_err(Error::os("fill", name))?;
    freeze(&map).map_err(Error::os("freeze", name))?;
    Ok(map)
}

/// Freezes a map, which the kernel refuses while anybody has it mapped to be written. A child has, until it runs its program,
/// when another thread of this process forked it just while `raw::fill` made the mapping. Nothing tells when that is over.
fn freeze(map: &MapHandle) -> io::Result<()> {
    let once = || map.freeze().map_err(Cause::into_io);
    for _ in 0..FREEZE_TRIES {
        match once() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(FREEZE_PAUSE),
            done => return done,
        }
    }
    once()
}

/// Makes a map with keys and values of these sizes, in bytes.
pub(crate) fn create_keyed(
    name: &'static str,
    kind: MapType,
    [key, value]: [u32; 2],
    entries: u32,
    flags: u32,
) -> Result<MapHandle> {
    MapHandle::create(kind, Some(name), key, value, entries, &options(flags)).map_err(Error::os("create map", name))
}

/// Opens a pinned map.
pub(crate) fn open_map(path: &Path, access: Access) -> Result<MapHandle> {
    let flags = match access {
        Access::Read => libbpf_sys::BPF_F_RDONLY,
        Access::Write => 0,
    };
    MapHandle::from_pinned_path_with_file_flags(path, flags).map_err(Error::at("open", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use inlet_testkit::World;

    use super::*;

    #[test]
    fn a_map_is_frozen_once_it_is_mapped_no_more() {
        let Some(_world) = World::new() else { return };
        let map = create("inlet_test", MapType::Array, 8, 1, libbpf_sys::BPF_F_MMAPABLE).unwrap();
        let mapped = raw::Words::map(map.as_fd(), 2).unwrap();
        assert_eq!(map.freeze().map_err(Cause::into_io).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        thread::scope(|scope| {
            let frozen = scope.spawn(|| freeze(&map));
            // Long enough for some tries.
            thread::sleep(20 * FREEZE_PAUSE);
            drop(mapped);
            frozen.join().unwrap().unwrap();
        });
        assert!(map.update(&0_u32.to_ne_bytes(), &[0; 8], MapFlags::ANY).is_err());
    }
}
