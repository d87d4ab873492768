//! The writer: an instance open for writing, and all that can be done with it. Nothing below knows of it.

mod answers;
mod apply;
mod commit;
mod confirm;
mod descriptions;
mod drain;
mod edit;
mod finish;
mod leftover;
mod lifecycle;
mod marks;
mod own_binds;
mod rollback;
mod routes;
mod sockets;
mod sticky;
mod takeover;

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::{PortRange, Ruleset, ServiceId};

pub use self::apply::ApplyOptions;
pub use self::commit::{CommitOptions, Committed};
pub use self::drain::Draining;
pub use self::lifecycle::UpOptions;
pub(crate) use self::sockets::choose;
pub use self::sockets::{AdoptedSocket, Adoption};

use crate::answers::needs;
use crate::error::{Error, Result};
use crate::kernel::{Capability, capability};
use crate::snapshot::warning::{self, Step};
use crate::snapshot::{Receivers, Warning};
use crate::state::{
    Access, Exclusive, Files, Location, Maps, OwnPorts, generations, is_there, open_link, read_ruleset,
};

/// An instance open for writing. Nobody else writes or reads it while this is held.
#[derive(Debug)]
pub struct Instance {
    location: Location,
    _lock: Exclusive,
    files: Files,
    link: OwnedFd,
    generation: u64,
    maps: Maps,
    ruleset: OnceCell<Ruleset>,
    /// Whether Inlet keeps the local routes of the ruleset in force.
    keeps_routes: bool,
    /// Whether an earlier commit left something to be done after its commit point.
    unfinished: bool,
    /// The generation that was not confirmed in time, when opening went back from it.
    unconfirmed: Option<u64>,
    /// What that went without.
    without: Vec<Error>,
    /// Why going back failed that had to be done when the instance was opened.
    stuck: Option<Error>,
}

impl Instance {
    /// Opens the instance of a namespace, and finishes or removes what an interrupted commit left. A ruleset that was
    /// not confirmed in time makes way for the previous one: see [`Instance::went_back_from`].
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`], [`crate::StateError::Newer`], [`crate::StateError::Detached`],
    /// [`crate::StateError::ForeignProgram`], [`crate::StateError::Untrusted`], and errors of the kernel.
    pub fn open(location: Location) -> Result<Self> {
        location.check_bpffs()?;
        location.root().check()?;
        let lock = Exclusive::on(&location.dir())?.ok_or_else(|| location.not_up())?;
        capability::require("changing the instance", &[Capability::Bpf, Capability::NetAdmin])?;
        let (lock, took_over) = takeover::take_over(&location, lock)?;
        let files = Files(location.dir());
        let maps = Maps::open(&files, Access::Write)?;
        let link = open_link(&files)?;
        let found = generations(&files, link.as_fd())?;
        let waits = !files.all_left()?.is_empty() || is_there(&files.described().changing())?;
        let unfinished = !found.left.is_empty() || waits || took_over;
        let keeps_routes = files.generation(found.in_force).keeps_routes()?;
        let mut instance = Self {
            location,
            _lock: lock,
            files,
            link,
            generation: found.in_force,
            maps,
            ruleset: OnceCell::new(),
            keeps_routes,
            unfinished,
            unconfirmed: None,
            without: Vec::new(),
            stuck: None,
        };
        // Whoever needs it finished tries again, and tells why it cannot be.
        instance.finish();
        if took_over {
            instance.end_takeover();
        }
        instance.go_back_when_over();
        Ok(instance)
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many sockets fit.
    pub fn max_sockets(&self) -> u32 {
        self.maps.max_sockets()
    }

    /// The ports that programs with own binds get.
    pub fn own_ports(&self) -> Option<PortRange> {
        self.maps.own_ports.as_ref().map(OwnPorts::range)
    }

    /// The ruleset in force, read from the image of its generation.
    ///
    /// # Errors
    /// Those of reading the image.
    pub fn ruleset(&self) -> Result<&Ruleset> {
        if self.ruleset.get().is_none() {
            let image = self.files.generation(self.generation).image();
            // Only this thread can have filled the cell meanwhile, and it did not.
            let _ = self.ruleset.set(read_ruleset(&image)?);
        }
        Ok(self.ruleset.get().unwrap_or_else(|| unreachable!("the cell was filled above")))
    }

    /// The ruleset in force, when nothing more is to be done with the instance.
    ///
    /// # Errors
    /// Those of [`Instance::ruleset`].
    pub fn into_ruleset(self) -> Result<Ruleset> {
        self.ruleset()?;
        Ok(self.ruleset.into_inner().unwrap_or_default())
    }

    /// Remembers the ruleset that a commit has put in force, and gives the previous one.
    pub(crate) fn in_force(&mut self, ruleset: Ruleset) -> Ruleset {
        std::mem::replace(&mut self.ruleset, OnceCell::from(ruleset)).into_inner().unwrap_or_default()
    }

    /// The number of the service of this name.
    ///
    /// # Errors
    /// [`Error::UnknownService`].
    pub fn id_of(&self, name: &str) -> Result<ServiceId> {
        self.service(name)
    }

    /// What a commit of this instance did that its author may not have meant, by what is there now: as
    /// [`crate::Planner::warnings`] of what it would do.
    ///
    /// # Errors
    /// Those of listing sockets and routes.
    pub fn warnings(&self, committed: &Committed) -> Result<Vec<Warning>> {
        let skipped = warning::skipped(&committed.skipped);
        if committed.plan.is_empty() {
            return Ok(skipped.collect());
        }
        let after = self.ruleset()?;
        let netns = self.location.netns();
        let receivers = Receivers::of(netns, Some((&self.maps, after)))?;
        let Committed { before, plan, keeps_routes, .. } = committed;
        let answers_unable = needs(after).is_some() && !self.files.generation(self.generation).notes_flows()?;
        let step = Step { before, after, plan, keeps_routes: *keeps_routes, answers_unable };
        let found = warning::all(netns, [&receivers, &receivers], &step, false)?;
        Ok(skipped.chain(found).collect())
    }

    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Result<ServiceId> {
        self.ruleset()?.services().id(name).ok_or_else(|| Error::UnknownService(name.to_owned()))
    }
}
