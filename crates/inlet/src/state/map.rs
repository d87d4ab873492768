//! One map of the bpf subsystem: made, or opened where it is pinned.

use std::mem::size_of;
use std::path::Path;

use libbpf_rs::{MapCore, MapHandle, MapType};

use crate::error::{Error, Result, StateError};

/// How a map is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

pub(super) fn options(flags: u32) -> libbpf_sys::bpf_map_create_opts {
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

/// The same for one of a type, with keys and values of these sizes, and with so many entries when that is known. Another map
/// at its place would be read and written as what it is not.
pub(super) fn open_map_of(
    path: &Path,
    access: Access,
    kind: MapType,
    [key, value]: [u32; 2],
    entries: Option<u32>,
) -> Result<MapHandle> {
    let map = open_map(path, access)?;
    let shape = |kind: MapType, key, value, entries| format!("{kind:?}, key {key}, value {value}, entries {entries}");
    let found = shape(map.map_type(), map.key_size(), map.value_size(), map.max_entries());
    let expected = shape(kind, key, value, entries.unwrap_or_else(|| map.max_entries()));
    match found == expected {
        true => Ok(map),
        false => Err(Error::State(StateError::OtherMap { path: path.to_owned(), found, expected })),
    }
}
