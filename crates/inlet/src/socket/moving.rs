//! Puts sockets that are in the map into other slots of it. Only a program can: see `copy.bpf.c`.

use std::io::Read;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsFd;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::lanes::Slot;
use crate::bpf::copy::{CopySkelBuilder, types};
use crate::error::{Error, Result};
use crate::kernel::raw;
use crate::program;

const _: () = assert!(size_of::<types::copy>() == 8);

/// Copies the socket of each first slot to the second one of another map, or of the same, which is empty. One that closes
/// meanwhile is nowhere.
pub(crate) fn copy(from: &MapHandle, to: &MapHandle, copies: &[(Slot, Slot)]) -> Result<()> {
    if copies.is_empty() {
        return Ok(());
    }
    program::loading(|failed| {
        let mut storage = MaybeUninit::uninit();
        let mut open = CopySkelBuilder::default().open(&mut storage).map_err(failed)?;
        open.maps.inlet_sockets.reuse_fd(to.as_fd()).map_err(failed)?;
        open.maps.inlet_copies.set_max_entries(copies.len() as u32).map_err(failed)?;
        let loaded = open.load().map_err(failed)?;
        let map = &loaded.maps.inlet_copies;
        for (from, to) in copies {
            let value: Vec<u8> = [to.0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            map.update(&from.0.to_ne_bytes(), &value, MapFlags::ANY).map_err(Error::os("fill", "the map of copies"))?;
        }
        let mut told = Vec::new();
        raw::iterate_map(loaded.progs.inlet_copy.as_fd(), from.as_fd())
            .and_then(|mut slots| slots.read_to_end(&mut told))
            .map_err(Error::os("copy", "sockets to other slots"))?;
        copies.iter().try_for_each(|(from, _)| went(map, *from))
    })
}

/// Whether a socket went where it should.
fn went(copies: &impl MapCore, from: Slot) -> Result<()> {
    let value = copies.lookup(&from.0.to_ne_bytes(), MapFlags::ANY).map_err(Error::os("read", "the map of copies"))?;
    let error = value.and_then(|value| value.get(4..8)?.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if error == 0 {
        return Ok(());
    }
    let cause = std::io::Error::from_raw_os_error(-error);
    Err(Error::os("copy", format!("the socket of slot {}", from.0))(cause))
}
