//! The ports of programs with own binds: where these are in truth bound, and what they asked for.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use inlet_core::{PortRange, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::layout::Files;
use super::map::{Access, create, open_map_of};
use super::pins::is_there;
use super::readers::Readers;
use crate::error::{Cause, Error, Result};
use crate::kernel::raw;

/// `OWN_FREED` of ports.bpf.h: an entry that is free again.
const FREED: u32 = 0xffff << SERVICE_SHIFT;
/// `OWN_SERVICE_SHIFT` of ports.bpf.h.
const SERVICE_SHIFT: u32 = 16;
/// In the place of the service: it is gone, and its socket is still there. No service has this number.
const GONE: u32 = 0xfffe;

/// The map of these ports, see `bpf/ports.bpf.h`.
#[derive(Debug)]
pub(crate) struct OwnPorts {
    pub(crate) map: MapHandle,
    range: PortRange,
}

impl Files {
    /// The ports of programs with own binds.
    pub(crate) fn own_ports(&self) -> PathBuf {
        self.0.join("own-ports")
    }
}

impl OwnPorts {
    /// Makes a map for a range.
    pub(crate) fn create(range: PortRange) -> Result<Self> {
        let count = u32::from(range.last() - range.first()) + 1;
        let map = create("inlet_own_ports", MapType::Array, 4, count + 1, 0)?;
        let ports = Self { map, range };
        ports.write(0, u32::from(range.first()))?;
        Ok(ports)
    }

    /// Opens the map where it is pinned. An instance of an earlier version has none.
    pub(super) fn open(path: &Path, access: Access) -> Result<Option<Self>> {
        if !is_there(path)? {
            return Ok(None);
        }
        let map = open_map_of(path, access, MapType::Array, [4, 4], None)?;
        let first = read(&map, 0)?;
        let last = (first + map.max_entries()).saturating_sub(2);
        let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Ok(PortRange::new(port(first), port(last)).ok().map(|range| Self { map, range }))
    }

    /// The same for a writer, who makes what is not there.
    pub(super) fn ensure(path: &Path, readers: Readers) -> Result<Self> {
        if let Some(known) = Self::open(path, Access::Write)? {
            return Ok(known);
        }
        let made = Self::create(default_own_ports())?;
        made.pin(path, readers)?;
        Ok(made)
    }

    pub(super) fn pin(&self, path: &Path, readers: Readers) -> Result<()> {
        raw::pin(self.map.as_fd(), path).map_err(Error::at("pin", path))?;
        readers.admit_to_map(path)
    }

    /// The range.
    pub(crate) fn range(&self) -> PortRange {
        self.range
    }

    /// What the program of a socket at this port asked for; `None` when it got what it asked for.
    pub(crate) fn asked(&self, port: u16) -> Result<Option<u16>> {
        match self.range.contains(port) {
            true => Ok(Some(self.entry(port)? as u16).filter(|asked| *asked != 0)),
            false => Ok(None),
        }
    }

    /// How many ports of the range are taken: programs asked for so many others.
    pub(crate) fn taken(&self) -> Result<u32> {
        let (count, first) = (self.map.max_entries(), 0_u32.to_ne_bytes());
        let entries: Vec<_> = self.map.lookup_batch(count, MapFlags::ANY, MapFlags::ANY).map_err(unread())?.collect();
        // Where the kernel refuses to give them, the library ends the list without an error.
        if entries.len() as u32 != count {
            return Err(unread()(io::Error::other(format!("the kernel gave {} of {count} entries", entries.len()))));
        }
        let is_taken = |value: &[u8]| value.try_into().is_ok_and(|value| u32::from_ne_bytes(value) as u16 != 0);
        Ok(entries.iter().filter(|(key, value)| *key != first && is_taken(value)).count() as u32)
    }

    /// Frees the ports of services that have own binds no more, unless a socket is there.
    pub(crate) fn free(&self, keeps: impl Fn(ServiceId) -> bool, is_bound: impl Fn(u16) -> bool) -> Result<()> {
        for port in self.range.first()..=self.range.last() {
            let entry = self.entry(port)?;
            let service = ServiceId::new((entry >> SERVICE_SHIFT) as u16);
            if entry as u16 == 0 || service.is_some_and(&keeps) {
                continue;
            }
            let value = if is_bound(port) { GONE << SERVICE_SHIFT | entry & 0xffff } else { FREED };
            self.write(self.at(port), value)?;
        }
        Ok(())
    }

    fn at(&self, port: u16) -> u32 {
        u32::from(port - self.range.first()) + 1
    }

    fn entry(&self, port: u16) -> Result<u32> {
        read(&self.map, self.at(port))
    }

    fn write(&self, at: u32, value: u32) -> Result<()> {
        let written = self.map.update(&at.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY);
        written.map_err(Error::os("write", "the map of own ports"))
    }
}

/// The range of an instance that was made without one: above the ports that Linux gives to clients, and where hardly any
/// program listens.
pub(crate) fn default_own_ports() -> PortRange {
    PortRange::new(61_000, 64_999).unwrap_or_else(|_| unreachable!("61000 is not above 64999"))
}

fn read(map: &MapHandle, at: u32) -> Result<u32> {
    let value = map.lookup(&at.to_ne_bytes(), MapFlags::ANY).map_err(unread())?;
    Ok(value.and_then(|value| value.try_into().ok()).map_or(0, u32::from_ne_bytes))
}

fn unread<E: Cause>() -> impl FnOnce(E) -> Error {
    Error::os("read", "the map of own ports")
}
