//! The key of the hash that chooses among the sockets of a service.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapType};

use super::frozen::freeze;
use super::map::{Access, create, open_map};
use crate::error::{Error, Result};
use crate::kernel::raw;

/// The key of the hash that chooses among the sockets of a service. It is secret, and the same as long as the instance
/// is there, so that flows stay where they are when the rules change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowKey(pub(crate) [u64; 2]);

impl FlowKey {
    const BYTES: usize = size_of::<[u64; 2]>();

    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; Self::BYTES];
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        // So few bytes come whole (getrandom(2)).
        got.map(|_| Self::of(bytes)).map_err(Error::os("get", "random bytes"))
    }

    fn of(bytes: [u8; Self::BYTES]) -> Self {
        Self(std::array::from_fn(|at| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at * 8 + byte]))))
    }

    /// Keeps a new key in a map that nobody can change any more.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let key = Self::random()?;
        let map = create("inlet_flow_key", MapType::Array, Self::BYTES as u32, 1, 0)?;
        let bytes: Vec<u8> = key.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
        map.update(&0_u32.to_ne_bytes(), &bytes, MapFlags::ANY).map_err(Error::os("write", "the key of flows"))?;
        freeze(&map).map_err(Error::os("freeze", "the key of flows"))?;
        raw::pin(map.as_fd(), path).map_err(Error::at("pin", path))?;
        Ok(key)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let value = open_map(path, Access::Read)?.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
        let bytes = value.map_err(Error::at("read", path))?.and_then(|value| value.try_into().ok());
        let cut = || Error::at("read", path)(io::Error::from(io::ErrorKind::UnexpectedEof));
        bytes.map(Self::of).ok_or_else(cut)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowKey")
    }
}
