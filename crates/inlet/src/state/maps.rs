//! The maps that outlive generations, and the mark of the state format.

use std::mem::size_of;
use std::os::fd::AsFd;
use std::path::PathBuf;

use inlet_core::{MAX_SERVICES, PortRange};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::flow_key::FlowKey;
use super::layout::Files;
use super::map::{Access, create, create_keyed, open_map, open_map_of, options};
use super::own_ports::OwnPorts;
use super::readers::Readers;
use crate::bpf::steer::types;
use crate::error::{Error, Result, StateError};
use crate::kernel::raw;

/// The number of the state format. An instance of a higher number was made by a newer version.
pub(super) const STATE_FORMAT: u32 = 3;

/// How many lanes a service has: two protocols, two families.
pub(crate) const LANES_PER_SERVICE: u32 = 4;

/// How many bytes of binds may wait for the watcher; a power of 2 of at least a page.
const BINDS_BYTES: u32 = 1 << 16;

/// A dual-stack socket has a slot in the lane of each family, and lanes are ranges of slots, which leave gaps between
/// them.
const SLOTS_PER_SOCKET: u32 = 4;

/// The maps of an instance.
#[derive(Debug)]
pub(crate) struct Maps {
    /// For those who load programs; others have none.
    pub(crate) flow_key: FlowKey,
    pub(crate) sockets: MapHandle,
    pub(crate) lanes: MapHandle,
    pub(crate) counters: MapHandle,
    /// The ports of binds, for the watcher.
    pub(crate) binds: MapHandle,
    /// The ports of programs with own binds. Readers of what an earlier version made have none.
    pub(crate) own_ports: Option<OwnPorts>,
}

impl Maps {
    /// Makes new maps, which are gone with what is returned.
    pub(crate) fn unpinned(max_sockets: u32, own_ports: PortRange) -> Result<Self> {
        let lanes = u32::from(MAX_SERVICES) * LANES_PER_SERVICE;
        Ok(Self {
            flow_key: FlowKey::random()?,
            sockets: create("inlet_sockets", MapType::Sockmap, 8, max_sockets * SLOTS_PER_SOCKET, 0)?,
            lanes: create("inlet_lanes", MapType::Array, size_of::<u64>() as u32, lanes, libbpf_sys::BPF_F_MMAPABLE)?,
            counters: create(
                "inlet_counters",
                MapType::PercpuArray,
                size_of::<types::counters>() as u32,
                MAX_SERVICES.into(),
                0,
            )?,
            binds: create_keyed("inlet_binds", MapType::RingBuf, [0, 0], BINDS_BYTES, 0)?,
            own_ports: Some(OwnPorts::create(own_ports)?),
        })
    }

    /// Makes new maps and pins them. The counters of an earlier version go on.
    pub(crate) fn create(
        files: &Files,
        (max_sockets, own_ports): (u32, PortRange),
        readers: Readers,
        counters: Option<MapHandle>,
    ) -> Result<Self> {
        let meta = create("inlet_meta", MapType::Array, 4, 1, 0)?;
        meta.update(&0_u32.to_ne_bytes(), &STATE_FORMAT.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::os("write", "the map of the state format"))?;
        let flow_key = FlowKey::create(&files.flow_key())?;
        let new = Self::unpinned(max_sockets, own_ports)?;
        let maps = Self { flow_key, counters: counters.unwrap_or(new.counters), ..new };
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
        if let Some(own_ports) = &maps.own_ports {
            own_ports.pin(&files.own_ports(), readers)?;
        }
        std::fs::create_dir(files.watch()).map_err(Error::at("make", &files.watch()))?;
        readers.admit_to_dir(&files.watch())?;
        Ok(maps)
    }

    /// Opens the maps of an instance, after a look at its format.
    pub(crate) fn open(files: &Files, access: Access) -> Result<Self> {
        let found = format_of(files)?;
        if found < STATE_FORMAT {
            return Err(Error::State(StateError::Older { path: files.0.clone(), found, known: STATE_FORMAT }));
        }
        if found > STATE_FORMAT {
            return Err(Error::State(StateError::Newer { path: files.0.clone(), found, known: STATE_FORMAT }));
        }
        let flow_key = match access {
            Access::Read => FlowKey([0; 2]),
            Access::Write => FlowKey::read(&files.flow_key())?,
        };
        let own_ports = match access {
            Access::Read => OwnPorts::open(&files.own_ports(), access)?,
            Access::Write => Some(OwnPorts::ensure(&files.own_ports(), Readers::of(&files.0)?)?),
        };
        let lanes = u32::from(MAX_SERVICES) * LANES_PER_SERVICE;
        let open = |path: PathBuf, kind, sizes, entries| open_map_of(&path, access, kind, sizes, entries);
        Ok(Self {
            flow_key,
            sockets: open(files.sockets(), MapType::Sockmap, [4, 8], None)?,
            lanes: open(files.lanes(), MapType::Array, [4, size_of::<u64>() as u32], Some(lanes))?,
            counters: counters_of(files, access)?,
            binds: open(files.binds(), MapType::RingBuf, [0, 0], Some(BINDS_BYTES))?,
            own_ports,
        })
    }

    /// How many sockets fit, whatever their kind.
    pub(crate) fn max_sockets(&self) -> u32 {
        self.sockets.max_entries() / SLOTS_PER_SOCKET
    }
}

/// The number of the format of an instance.
pub(super) fn format_of(files: &Files) -> Result<u32> {
    let meta = open_map(&files.meta(), Access::Read)?;
    let value = meta.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(Error::at("read", &files.meta()))?;
    Ok(value.and_then(|value| value.try_into().ok()).map_or(u32::MAX, u32::from_ne_bytes))
}

/// The counters of an instance.
pub(super) fn counters_of(files: &Files, access: Access) -> Result<MapHandle> {
    let sizes = [4, size_of::<types::counters>() as u32];
    open_map_of(&files.counters(), access, MapType::PercpuArray, sizes, Some(MAX_SERVICES.into()))
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
