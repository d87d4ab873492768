//! Commits: one ruleset takes the place of another, in one step.

use std::os::fd::AsFd;
use std::time::Duration;

use inlet_core::{Builder, Interface, Plan, Ruleset, ServiceId};

use super::Instance;
use crate::described::Prepared;
use crate::error::{CommitError, Error, Result, RouteError};
use crate::fault;
use crate::kernel::{Capability, capability, raw};
use crate::program::{Beside, Generation};
use crate::route::{self, RouteChanges, Wanted};
use crate::snapshot::{lockout, resolve_interfaces};
use crate::state::{
    GenerationFiles, Readers, deadline, generations, keep_previous, open_previous, remove_all, wait_for_packets,
};

/// After so many commits one waits until the kernel has let go of the programs of those before.
///
/// The kernel frees programs in a queue of 1,024 places, each under the lock of the JIT's memory. A load takes that lock too, and
/// may wait for that queue: when frees fill it, nothing loads a program any more until a reboot (seen on 6.18, in
/// `bpf_prog_pack_alloc`). Commits one after the other on a busy machine can do that.
const COMMITS_WITHOUT_PAUSE: u64 = 64;

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// The generation in force afterwards.
    pub generation: u64,
    /// What changed. When nothing did, the generation is the one that was in force before.
    pub plan: Plan,
    /// The ruleset before, to which removed rules and former verdicts of the plan belong.
    pub before: Ruleset,
    /// Whether Inlet keeps the local routes.
    pub keeps_routes: bool,
    /// What became of the local routes.
    pub routes: RouteChanges,
}

/// How a ruleset comes into force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Within which time it has to be confirmed.
    pub(crate) confirm_within: Option<Duration>,
    /// It is the ruleset before the one in force.
    pub(crate) is_former: bool,
}

impl Instance {
    /// Changes the ruleset: `change` gets a builder that holds what is in force, and what it makes of it is committed.
    ///
    /// # Errors
    /// Those of `change`, and whatever keeps the outcome from being a ruleset in force. Nothing is changed then.
    pub fn edit(&mut self, change: impl FnOnce(&mut Builder) -> Result<()>) -> Result<Committed> {
        let mut builder = Builder::from_ruleset(self.ruleset()?.clone());
        change(&mut builder)?;
        self.commit(builder)
    }

    /// Puts the ruleset of a builder in force. Its services keep the numbers that they have.
    ///
    /// # Errors
    /// Whatever keeps it from being in force. Nothing is changed then. [`crate::CommitError::Unfinished`] is the exception: the
    /// ruleset is in force, and what it replaced is cleared away by the next command that changes something.
    pub fn commit(&mut self, mut builder: Builder) -> Result<Committed> {
        let known = self.ruleset()?.interfaces();
        self.resolve_interfaces(&mut builder, known)?;
        self.commit_as_is(builder)
    }

    /// [`Instance::commit`] with the indexes that the builder has for its interfaces, whether there are such or not.
    ///
    /// # Errors
    /// As for [`Instance::commit`].
    pub fn commit_as_is(&mut self, builder: Builder) -> Result<Committed> {
        self.replace(builder.finish()?)
    }

    /// Puts a ruleset in force that was made as the successor of the one that is, with the indexes that it has for its
    /// interfaces.
    ///
    /// # Errors
    /// As for [`Instance::commit`].
    pub fn replace(&mut self, new: Ruleset) -> Result<Committed> {
        self.replace_to_confirm(new, None)
    }

    /// [`Instance::replace`]; when `within` is given, the ruleset before comes back unless [`Instance::confirm`] is called
    /// in time. See [`crate::Waiter`].
    ///
    /// # Errors
    /// As for [`Instance::replace`], and [`crate::ConfirmError::Unconfirmed`] while another ruleset waits for that.
    pub fn replace_to_confirm(&mut self, new: Ruleset, within: Option<Duration>) -> Result<Committed> {
        self.require_confirmed()?;
        self.put(new, Terms { confirm_within: within, is_former: false })
    }

    /// Puts a ruleset in force, and keeps the one before beside it.
    pub(crate) fn put(&mut self, new: Ruleset, terms: Terms) -> Result<Committed> {
        // Before the number of a service that went can mean another one.
        self.finish_commit()?;
        let (kept, keeps_routes) = (self.keeps_routes(), self.routes_next.take().unwrap_or(self.keeps_routes()));
        let wanted = keeps_routes.then(|| Wanted::by(&new, self.location.netns())).transpose()?;
        let old = self.ruleset()?;
        let plan = Plan::between(old, &new);
        if plan.is_empty() && old.interfaces() == new.interfaces() && keeps_routes == kept {
            let routes = wanted.map_or_else(|| Ok(RouteChanges::default()), Wanted::carry_out)?;
            return Ok(Committed { generation: self.generation, plan, before: Ruleset::empty(), keeps_routes, routes });
        }
        if self.is_guarded {
            lockout::check(self.location.netns(), &self.maps, old, &new, &plan)?;
        }
        let prepared = self.prepare_descriptions(&plan, &new)?;
        let current = self.files.generation(self.generation);
        let (previous, kept_routes, leave) = match plan.is_empty() {
            // Routes and indexes of interfaces alone are nothing to go back to.
            true => (open_previous(&current)?, current.kept_routes().exists(), Vec::new()),
            false => (Some(keep_previous(old, &new, &plan)?), kept, self.leaving()?),
        };
        let deadline = terms.confirm_within.filter(|_| !plan.is_empty()).map(deadline).transpose()?;
        let (again, gone): (Vec<ServiceId>, Vec<ServiceId>) =
            leave.into_iter().partition(|id| new.services().get(*id).is_some());
        if !terms.is_former {
            // No program in force knows these numbers, so this can be done before the commit.
            self.retire(&again)?;
        }
        let beside = Beside { keeps_routes, previous, kept_routes, deadline };
        let (before, routes) = self.swap(new, &plan, &beside, &gone, prepared, wanted)?;
        self.find_after(&plan).map_err(|cause| Error::Commit(CommitError::NotAdopted { cause: Box::new(cause) }))?;
        Ok(Committed { generation: self.generation, plan, before, keeps_routes, routes })
    }

    /// Says whether Inlet keeps the local routes that the rules need, from the next commit on.
    pub fn keep_routes(&mut self, keep: bool) {
        self.routes_next = Some(keep);
    }

    /// Whether Inlet keeps the local routes of the ruleset in force.
    pub fn keeps_routes(&self) -> bool {
        self.files.generation(self.generation).keeps_routes()
    }

    /// The services of the ruleset before that are not in the one in force. They have what they had, as one can go back to
    /// them, and one cannot when another ruleset has come.
    fn leaving(&self) -> Result<Vec<ServiceId>> {
        let (services, former) = (self.ruleset()?.services(), self.former_services()?);
        Ok(former.iter().map(|(id, _)| id).filter(|id| services.get(*id).is_none()).collect())
    }

    /// `wanted` are the local routes, when Inlet is to keep them.
    fn swap(
        &mut self,
        new: Ruleset,
        plan: &Plan,
        beside: &Beside,
        gone: &[ServiceId],
        prepared: Prepared,
        wanted: Option<Wanted>,
    ) -> Result<(Ruleset, RouteChanges)> {
        let next = self.generation + 1;
        capability::require("changing the rules", &[Capability::Perfmon])?;
        let image = self.files.generation(self.generation).image();
        let generation = Generation::load_after(self.ruleset()?, &image, &new, plan, &self.maps)?;
        fault::point("commit:loaded");
        let files = self.files.generation(next);
        if let Err(error) = generation.pin(beside, &files, Readers::of(&self.files.0)?) {
            return Err(self.withdraw(&files, error));
        }
        fault::point("commit:pinned");
        // The commit point: packets before this call see the old ruleset whole, packets after it the new one whole.
        if let Err(cause) = raw::link_update(self.link.as_fd(), generation.program.as_fd()) {
            return Err(self.withdraw(&files, Error::at("update", &self.files.link())(cause)));
        }
        fault::point("commit:swapped");
        let kept = self.keeps_routes();
        let former = std::mem::replace(&mut self.generation, next);
        let before = self.in_force(new);
        self.unfinished = true;
        let routes = match wanted {
            Some(wanted) => wanted.carry_out(),
            None if kept => route::remove_all(self.location.netns()),
            None => Ok(RouteChanges::default()),
        };
        let cleared = routes.and_then(|routes| {
            // Before the slots of services that are gone are: nobody may put sockets into them any more.
            self.describe(prepared)?;
            self.retire(gone)?;
            fault::point("commit:retired");
            remove_all(&self.files.generation(former).0)?;
            if next.is_multiple_of(COMMITS_WITHOUT_PAUSE) {
                wait_for_packets()?;
            }
            Ok(routes)
        });
        let routes = cleared
            .map_err(|cause| Error::Commit(CommitError::Unfinished { generation: next, cause: Box::new(cause) }))?;
        self.unfinished = false;
        Ok((before, routes))
    }

    /// Takes back the generation of a commit that failed, and gives the reason.
    fn withdraw(&mut self, files: &GenerationFiles, reason: Error) -> Error {
        self.unfinished = remove_all(&files.0).is_err();
        reason
    }

    /// Does what was left to do after the commit point of an earlier commit, if anything, and removes generations that
    /// are not in force.
    pub(crate) fn finish_commit(&mut self) -> Result<()> {
        if !self.unfinished {
            return Ok(());
        }
        let left = generations(&self.files, self.link.as_fd())?.left;
        let (services, former) = (self.ruleset()?.services(), self.former_services()?);
        let is_gone = |id: &ServiceId| services.get(*id).is_none() && former.get(*id).is_none();
        let gone: Vec<ServiceId> = (1..inlet_core::MAX_SERVICES).filter_map(ServiceId::new).filter(is_gone).collect();
        self.finish_routes(&left)?;
        self.describe_again()?;
        self.retire(&gone)?;
        left.iter().try_for_each(|number| remove_all(&self.files.generation(*number).0))?;
        self.unfinished = false;
        Ok(())
    }

    /// Brings the local routes to what the generation in force says. A route that cannot be made now is for the next
    /// commit to complain about: it must not keep anybody from changing the rules.
    fn finish_routes(&self, left: &[u64]) -> Result<()> {
        let netns = self.location.netns();
        if !self.keeps_routes() {
            let kept = left.iter().any(|number| self.files.generation(*number).keeps_routes());
            return if kept { route::remove_all(netns).map(drop) } else { Ok(()) };
        }
        match Wanted::by(self.ruleset()?, netns) {
            Err(
                Error::Route(RouteError::CutsOff { .. })
                | Error::Route(RouteError::TooMany { .. })
                | Error::Route(RouteError::LoopbackDown { .. }),
            ) => Ok(()),
            wanted => wanted?.carry_out().map(drop),
        }
    }

    /// Looks up the index of every interface that rules name; those that are known may be gone.
    pub(crate) fn resolve_interfaces(&self, builder: &mut Builder, known: &[Interface]) -> Result<()> {
        resolve_interfaces(builder, self.location.netns(), known)
    }
}
