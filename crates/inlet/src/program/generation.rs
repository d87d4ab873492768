//! A generation: an image in the kernel and the program specialised for it.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use inlet_core::image::{self, Compiled, Image, Part};
use inlet_core::{Plan, Ruleset};
use libbpf_rs::MapHandle;

use super::load::{self, SharedMaps};
use crate::error::{Error, Result};
use crate::fault;
use crate::kernel::raw;
use crate::state::{GenerationFiles, Maps, Readers, create_frozen, default_own_ports, map_words};

/// What is pinned beside a generation.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
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
    /// The tables of flows that the program has: where they ask, where they stay.
    flows: [Option<OwnedFd>; 2],
    pub(crate) program: OwnedFd,
}

impl Generation {
    /// Compiles the ruleset, fills and freezes the image, and loads the program for it.
    pub(crate) fn load(ruleset: &Ruleset, maps: &Maps, shared: SharedMaps<'_>) -> Result<Self> {
        Self::of(image::compile(ruleset)?, maps, shared)
    }

    /// The same for a ruleset that takes the place of another one, with whatever can stay of the image of that one, if
    /// it can be read.
    pub(crate) fn load_after(
        old: &Ruleset,
        image: &Path,
        (new, plan): (&Ruleset, &Plan),
        maps: &Maps,
        shared: SharedMaps<'_>,
    ) -> Result<Self> {
        let Ok(image) = map_words(image) else { return Self::load(new, maps, shared) };
        Self::of(image::recompile(Compiled { ruleset: old, image: image.words() }, new, plan)?, maps, shared)
    }

    fn of(compiled: Image<'_>, maps: &Maps, shared: SharedMaps<'_>) -> Result<Self> {
        let image = create_frozen("inlet_image", compiled.words(), |words| write(compiled.parts(words)))?;
        fault::point("commit:filled");
        let program = load::load(compiled.header(), &image, maps, shared)?;
        let keep = |map: &MapHandle| map.as_fd().try_clone_to_owned().map_err(Error::os("keep", "a table of flows"));
        let answers = shared.answers.map(|maps| keep(&maps.flows)).transpose()?;
        let stays = shared.sticky.map(|maps| keep(&maps.stays)).transpose()?;
        Ok(Self { image, flows: [answers, stays], program })
    }

    /// Pins image and program in the directory of the generation, and with them what is beside them.
    pub(crate) fn pin(&self, attachments: &Attachments, files: &GenerationFiles, readers: Readers) -> Result<()> {
        let routes = attachments.keeps_routes.then(|| (self.image.as_fd(), files.routes()));
        let tables = self.flows.iter().zip([files.answers(), files.sticky()]);
        let tables = tables.filter_map(|(table, path)| Some((table.as_ref()?.as_fd(), path)));
        let pins = [(self.image.as_fd(), files.image()), (self.program.as_fd(), files.program())];
        for (object, path) in pins.into_iter().chain(routes).chain(tables) {
            raw::pin(object, &path).map_err(Error::at("pin", &path))?;
            fault::point("commit:pin");
        }
        readers.admit_to_map(&files.image())?;
        let previous = attachments.previous.as_ref().map(|map| (map, files.previous()));
        let kept_routes =
            attachments.previous.as_ref().filter(|_| attachments.kept_routes).map(|map| (map, files.kept_routes()));
        let deadline = attachments.deadline.as_ref().map(|map| (map, files.deadline()));
        if attachments.deadline.is_some() {
            let waiting = files.waiting();
            DirBuilder::new().mode(0o700).create(&waiting).map_err(Error::at("make", &waiting))?;
        }
        for (map, path) in previous.into_iter().chain(kept_routes).chain(deadline) {
            raw::pin(map.as_fd(), &path).map_err(Error::at("pin", &path))?;
            fault::point("commit:beside");
            readers.admit_to_map(&path)?;
        }
        Ok(())
    }
}

/// Makes the directory of a generation that is to come. From then on an interrupted commit is seen by it.
pub(crate) fn begin(files: &GenerationFiles, readers: Readers) -> Result<()> {
    std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
    fault::point("commit:directory");
    readers.admit_to_dir(&files.0)
}

/// Loads the program for no rules and lets it go: what this needs, every program needs.
pub(crate) fn try_out() -> Result<()> {
    Generation::load(&Ruleset::empty(), &Maps::unpinned(1, default_own_ports())?, SharedMaps::default()).map(drop)
}

/// From how many words on two threads write an image: less is done before the second one runs.
const LARGE: usize = 1 << 20;

/// Writes the parts of an image, the largest first.
fn write(mut parts: Vec<Part<'_>>) {
    let large = parts.iter().map(Part::words).sum::<usize>() >= LARGE;
    parts.sort_by_key(Part::words);
    let parts = Mutex::new(parts);
    let next = || parts.lock().ok().and_then(|mut parts| parts.pop());
    let work = || std::iter::from_fn(next).for_each(Part::write);
    thread::scope(|scope| {
        if large {
            // Without a second thread this one does all.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use std::net::Ipv4Addr;

    use inlet_core::{Builder, Protocol, Rule, Verdict};

    use super::*;

    #[test]
    fn two_threads_write_what_one_does() {
        let mut builder = Builder::new();
        for host in 0..200_000 {
            let local = Ipv4Addr::from_bits(host * 20_011).to_string().parse().unwrap();
            let rule = Rule::new(Protocol::Tcp, local, "443".parse().unwrap(), Verdict::Pass);
            builder.push(&rule).unwrap();
        }
        let ruleset = builder.finish().unwrap();
        let image = image::compile(&ruleset).unwrap();
        let mut words = vec![0; image.words()];
        assert!(words.len() > LARGE, "{}", words.len());
        write(image.parts(&mut words));
        assert!(words == image.to_words());
        assert_eq!(image::decode(&words).unwrap(), ruleset);
    }
}
