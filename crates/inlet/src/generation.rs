//! A generation: an image in the kernel and the program specialised for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::Ruleset;
use inlet_core::image;
use libbpf_rs::{MapHandle, MapType};

use crate::error::{Error, Result};
use crate::fault;
use crate::group::Readers;
use crate::layout::GenerationFiles;
use crate::state::{Maps, create};
use crate::{program, raw};

/// What is pinned beside a generation.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The mark that Inlet keeps the local routes.
    pub(crate) keeps_routes: bool,
    /// The ruleset before it.
    pub(crate) previous: Option<MapHandle>,
    /// The mark that Inlet kept the local routes of that one.
    pub(crate) kept_routes: bool,
    /// By when it has to be confirmed.
    pub(crate) deadline: Option<MapHandle>,
}

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
        let program = program::load(compiled.header(), &image, maps)?;
        Ok(Self { image, program })
    }

    /// Pins image and program in a new directory, and with them what is beside them.
    pub(crate) fn pin(&self, beside: &Beside, files: &GenerationFiles, readers: Readers) -> Result<()> {
        std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
        readers.admit_to_dir(&files.0)?;
        fault::point("commit:directory");
        let routes = beside.keeps_routes.then(|| (self.image.as_fd(), files.routes()));
        let pins = [(self.image.as_fd(), files.image()), (self.program.as_fd(), files.program())];
        for (object, path) in pins.into_iter().chain(routes) {
            raw::pin(object, &path).map_err(Error::at("pin", &path))?;
            fault::point("commit:pin");
        }
        readers.admit_to_map(&files.image())?;
        let previous = beside.previous.as_ref().map(|map| (map, files.previous()));
        let kept_routes = beside.previous.as_ref().filter(|_| beside.kept_routes).map(|map| (map, files.kept_routes()));
        let deadline = beside.deadline.as_ref().map(|map| (map, files.deadline()));
        for (map, path) in previous.into_iter().chain(kept_routes).chain(deadline) {
            raw::pin(map.as_fd(), &path).map_err(Error::at("pin", &path))?;
            fault::point("commit:beside");
            readers.admit_to_map(&path)?;
        }
        Ok(())
    }
}

/// Loads the program for no rules and lets it go: what this needs, every program needs.
pub(crate) fn try_out() -> Result<()> {
    Generation::load(&Ruleset::empty(), &Maps::unpinned(1)?).map(drop)
}
