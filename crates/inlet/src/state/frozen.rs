//! Frozen maps: filled once, and never changed by anybody after that.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use inlet_core::image;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::map::{Access, create, open_map};
use crate::error::{Cause, Error, Result, StateError};
use crate::kernel::raw;

/// How often a map is tried to be frozen, and how long nothing is done after each time.
const FREEZE_TRIES: u32 = 1000;
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// Makes a map of one value, so many words long, which nobody can change any more once it is filled.
pub(crate) fn create_frozen(name: &'static str, words: usize, fill: impl FnOnce(&mut [u32])) -> Result<MapHandle> {
    let bytes = u32::try_from(words * size_of::<u32>()).map_err(|_| io::ErrorKind::FileTooLarge.into());
    let bytes = bytes.map_err(Error::os::<io::Error>("create map", name))?;
    let map = create(name, MapType::Array, bytes, 1, libbpf_sys::BPF_F_MMAPABLE)?;
    raw::fill(map.as_fd(), words, fill).map_err(Error::os("fill", name))?;
    freeze(&map).map_err(Error::os("freeze", name))?;
    Ok(map)
}

/// Freezes a map, which the kernel refuses while anybody has it mapped to be written. A child has, until it runs its
/// program, when another thread of this process forked it just while `raw::fill` made the mapping. Nothing tells when
/// that is over.
pub(crate) fn freeze(map: &MapHandle) -> io::Result<()> {
    let once = || map.freeze().map_err(Cause::into_io);
    for _ in 0..FREEZE_TRIES {
        match once() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(FREEZE_PAUSE),
            done => return done,
        }
    }
    once()
}

/// The words of a frozen map, in memory. Only those who may write the pin can have this.
pub(crate) fn map_words(path: &Path) -> Result<raw::Frozen> {
    let map = open_map(path, Access::Write)?;
    let words = map.value_size() as usize / size_of::<u32>();
    raw::Frozen::map(map.as_fd(), words).map_err(Error::at("map", path))
}

/// Reads the words of a frozen map.
pub(crate) fn read_words<T>(
    path: &Path,
    read: impl FnOnce(&[u32]) -> std::result::Result<T, image::SourceError>,
) -> Result<T> {
    let broken = |source| Error::State(StateError::Damaged { path: path.to_owned(), source });
    match map_words(path) {
        Ok(frozen) => read(frozen.words()).map_err(broken),
        Err(_) => {
            let map = open_map(path, Access::Read)?;
            let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(Error::at("read", path))?;
            let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
            let words: Vec<u32> = bytes.unwrap_or_default().chunks_exact(4).map(word).collect();
            read(&words).map_err(broken)
        }
    }
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
