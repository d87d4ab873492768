//! A generation: an image in the kernel and the program specialised for it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use inlet_core::Ruleset;
use inlet_core::image::{self, Header, Root};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapHandle, MapType, PrintLevel};

use crate::error::{Cause, Error, Result};
use crate::fault;
use crate::group::Readers;
use crate::layout::GenerationFiles;
use crate::raw;
use crate::skeleton::{SteerSkelBuilder, types};
use crate::state::{Maps, create};

/// A compiled ruleset in the kernel, not yet in force.
#[derive(Debug)]
pub(crate) struct Generation {
    image: MapHandle,
    pub(crate) program: OwnedFd,
}

impl Generation {
    /// Compiles the ruleset, fills and freezes the image, and loads the program for it.
    pub(crate) fn load(ruleset: &Ruleset, maps: &Maps) -> Result<Self> {
        let compiled = image::compile(ruleset)?;
        let bytes = u32::try_from(compiled.words() * size_of::<u32>()).map_err(|_| io::ErrorKind::FileTooLarge.into());
        let bytes = bytes.map_err(Error::os::<io::Error>("create map", "inlet_image"))?;
        let image = create("inlet_image", MapType::Array, bytes, 1, libbpf_sys::BPF_F_MMAPABLE)?;
        raw::fill(image.as_fd(), compiled.words(), |words| compiled.write(words))
            .map_err(Error::os("fill", "the image"))?;
        image.freeze().map_err(Error::os("freeze", "the image"))?;
        fault::point("commit:filled");
        let program = load_program(compiled.header(), &image, maps)?;
        Ok(Self { image, program })
    }

    /// Pins image and program in a new directory.
    pub(crate) fn pin(&self, files: &GenerationFiles, readers: Readers) -> Result<()> {
        std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
        readers.admit_to_dir(&files.0)?;
        fault::point("commit:directory");
        for (object, path) in [(self.image.as_fd(), files.image()), (self.program.as_fd(), files.program())] {
            raw::pin(object, &path).map_err(Error::at("pin", &path))?;
            fault::point("commit:pin");
        }
        readers.admit_to_map(&files.image())
    }
}

/// What libbpf and the verifier said last, for the error that follows.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

fn keep_last_words(_: PrintLevel, text: String) {
    let Ok(mut words) = LAST_WORDS.lock() else { return };
    let kept = words.len().saturating_sub(2000);
    let from = words.char_indices().map(|(at, _)| at).find(|at| *at >= kept).unwrap_or(words.len());
    words.drain(..from);
    words.push_str(&text);
}

fn load_program(header: &Header, image: &MapHandle, maps: &Maps) -> Result<OwnedFd> {
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep_last_words)));
    let last_words = || LAST_WORDS.lock().map(|mut words| std::mem::take(&mut *words)).unwrap_or_default();
    let failed = |error: libbpf_rs::Error| Error::Load { cause: error.into_io(), log: last_words() };
    // What was said about an earlier program is not about this one.
    drop(last_words());
    let mut storage = MaybeUninit::uninit();
    let mut open = SteerSkelBuilder::default().open(&mut storage).map_err(failed)?;
    let reused = [
        (&mut open.maps.inlet_image, image),
        (&mut open.maps.inlet_sockets, &maps.sockets),
        (&mut open.maps.inlet_lanes, &maps.lanes),
        (&mut open.maps.inlet_counters, &maps.counters),
    ];
    for (map, handle) in reused {
        map.reuse_fd(handle.as_fd()).map_err(failed)?;
    }
    // Without its constants the program would steer nothing.
    let absent = || Error::Load { cause: io::Error::other("it has no constants"), log: String::new() };
    open.maps.rodata_data.as_deref_mut().ok_or_else(absent)?.cfg = config(header);
    let loaded = open.load().map_err(failed)?;
    loaded.progs.inlet_steer.as_fd().try_clone_to_owned().map_err(Error::os("keep", "the program"))
}

/// The constants of the program.
fn config(header: &Header) -> types::config {
    let Header {
        search_words,
        index,
        blocks32,
        blocks128,
        cells,
        chain,
        hops,
        steps,
        levels,
        large_ports,
        bisect,
        v4,
        v6,
        ..
    } = *header;
    types::config {
        search_words,
        index,
        blocks32,
        blocks128,
        cells,
        chain,
        hops,
        steps,
        levels,
        large_ports,
        bisect,
        v4: root(v4),
        v6: root(v6),
        ..Default::default()
    }
}

fn root(root: Root) -> types::root {
    let Root { entries, entry, shift, low_half, first, high, levels, used } = root;
    types::root { entries, entry, shift, low_half, first, high, levels, used }
}
