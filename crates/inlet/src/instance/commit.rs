//! Commits: one ruleset takes the place of another, in one step.

use std::os::fd::AsFd;
use std::time::Duration;

use inlet_core::config::{Routes, Skipped};
use inlet_core::{Builder, Interface, Plan, Ruleset, ServiceId};

use super::Instance;
use crate::described::{Placed, Prepared};
use crate::error::{CommitError, Error, Result};
use crate::fault;
use crate::kernel::{Capability, capability, raw};
use crate::program::{Attachments, Generation, SharedMaps, begin};
use crate::route::{RouteChanges, RoutePlan};
use crate::snapshot::{lockout, resolve_interfaces};
use crate::socket::Lanes;
use crate::state::{
    GenerationFiles, Readers, deadline, is_there, keep_previous, open_previous, remove_all, wait_for_packets,
};

/// Every so many commits one waits until the kernel has freed the programs of earlier ones.
///
/// The kernel frees programs in a queue of 1,024 places, each under the lock of the JIT's memory. A load takes that
/// lock too, and may wait for that queue: when frees fill it, nothing loads a program any more until a reboot (seen on
/// 6.18, in `bpf_prog_pack_alloc`). Commits one after the other on a busy machine can do that.
const COMMITS_WITHOUT_PAUSE: u64 = 64;

/// How a ruleset comes into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// Within which time it has to be confirmed: unless [`Instance::confirm`] is called in it, the previous ruleset
    /// comes back. See [`crate::Waiter`]. `None`: it stays.
    pub confirm_within: Option<Duration>,
    /// Whether Inlet keeps the local routes that the rules need. `None`: as before.
    pub routes: Option<Routes>,
    /// Whether a change is refused that takes packets from SSH, or from the listener by which this session came.
    pub guard: bool,
    /// The generation that the change was made for: when another one is in force, it is refused.
    pub expect_generation: Option<u64>,
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// The generation in force afterwards.
    pub generation: u64,
    /// What changed. When nothing did, the generation is the one that was in force before.
    pub plan: Plan,
    /// The previous ruleset, to which removed rules and replaced verdicts of the plan belong.
    pub before: Ruleset,
    /// Whether Inlet keeps the local routes.
    pub keeps_routes: bool,
    /// What became of the local routes.
    pub routes: RouteChanges,
    /// What could not be had, and why: who goes back does so without it.
    pub without: Vec<Error>,
    /// What the lists of a file were read without.
    pub skipped: Vec<Skipped>,
}

/// Where a commit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    /// To the previous ruleset: nothing may keep anybody from that. What cannot be had of it, it goes without.
    Back,
}

impl Direction {
    /// What stands for a part that cannot be had: forward that is an error.
    pub(super) fn without<T: Default>(self, error: Error, without: &mut Vec<Error>) -> Result<T> {
        match self {
            Self::Forward => Err(error),
            Self::Back => {
                without.push(error);
                Ok(T::default())
            }
        }
    }
}

/// All that the commit point puts in force, made before it.
struct Step {
    new: Ruleset,
    attachments: Attachments,
    /// The services that nobody can go back to any more.
    gone: Vec<ServiceId>,
    prepared: Prepared,
    routes: Option<RoutePlan>,
    direction: Direction,
}

/// What is left of it to do after the commit point.
struct Rest {
    gone: Vec<ServiceId>,
    prepared: Prepared,
    routes: Option<RoutePlan>,
    /// The generation that was in force.
    previous: u64,
}

impl Instance {
    /// Changes the ruleset: `change` gets a builder that holds what is in force, and what it makes of it is committed.
    /// The interfaces that rules name are looked up; those that are known may be gone.
    ///
    /// # Errors
    /// Those of `change`, [`crate::KernelError::UnknownInterface`], and those of [`Instance::commit`]. Nothing is
    /// changed then.
    pub fn edit(
        &mut self,
        options: &CommitOptions,
        change: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<Committed> {
        let old = self.ruleset()?;
        let mut builder = Builder::from_ruleset(old.clone());
        builder.reserve(&self.previous_services()?);
        change(&mut builder)?;
        self.resolve_interfaces(&mut builder, old.interfaces())?;
        self.commit(builder.finish()?, options)
    }

    /// Puts a ruleset in force that was made as the successor of the one that is, with the indexes that it has for its
    /// interfaces. This is the one way into force: [`Instance::edit`] and [`Instance::apply`] end here.
    ///
    /// # Errors
    /// Whatever keeps it from being in force, among them [`CommitError::LockOut`], [`CommitError::OtherGeneration`] and
    /// [`crate::ConfirmError::Unconfirmed`]. Nothing is changed then. [`CommitError::Unfinished`] is the exception: the
    /// ruleset is in force, and the next command that changes something clears away what it replaced.
    pub fn commit(&mut self, new: Ruleset, options: &CommitOptions) -> Result<Committed> {
        self.require_back()?;
        self.require_confirmed()?;
        self.put(new, options, Direction::Forward)
    }

    /// Puts a ruleset in force, and keeps the previous one beside it.
    pub(super) fn put(&mut self, new: Ruleset, options: &CommitOptions, direction: Direction) -> Result<Committed> {
        self.require_generation(options.expect_generation)?;
        let plan = Plan::between(self.ruleset()?, &new);
        // Before the number of a service that went can mean another one.
        let mut without = self.finish_before(&plan, direction)?;
        let kept = self.keeps_routes;
        let keeps_routes = options.routes.map_or(kept, |routes| routes == Routes::Manage);
        let routes = self.route_plan(&new, [keeps_routes, kept], direction, &mut without)?;
        let old = self.ruleset()?;
        let is_same = plan.is_empty() && old.interfaces() == new.interfaces() && keeps_routes == kept;
        if is_same && !self.lacks_marks()? && !self.lacks_size()? {
            let routes = routes.map_or_else(|| Ok(RouteChanges::default()), RoutePlan::carry_out)?;
            self.cover_new_interfaces();
            let (generation, before, skipped) = (self.generation, Ruleset::empty(), Vec::new());
            return Ok(Committed { generation, plan, before, keeps_routes, routes, without, skipped });
        }
        if options.guard {
            lockout::check(self.location.netns(), &self.maps, old, &new, &plan)?;
        }
        let prepared = self.prepare_descriptions(&plan, &new, direction, &mut without)?;
        let (attachments, leave) = self.attachments(&new, &plan, options, keeps_routes)?;
        let (again, gone): (Vec<ServiceId>, Vec<ServiceId>) =
            leave.into_iter().partition(|id| new.services().get(*id).is_some());
        if direction == Direction::Forward {
            // No program in force knows these numbers, so this can be done before the commit.
            self.retire(&again)?;
        }
        let step = Step { new, attachments, gone, prepared, routes, direction };
        let (before, routes) = self.take(step, &plan, &mut without)?;
        self.keeps_routes = keeps_routes;
        Ok(Committed { generation: self.generation, plan, before, keeps_routes, routes, without, skipped: Vec::new() })
    }

    /// Fails when another generation is in force than the change was made for.
    fn require_generation(&self, expected: Option<u64>) -> Result<()> {
        match expected.filter(|expected| *expected != self.generation) {
            Some(expected) => Err(CommitError::OtherGeneration { expected, generation: self.generation }.into()),
            None => Ok(()),
        }
    }

    /// What is pinned beside the generation to come, and the services that nobody can go back to once it is in force.
    fn attachments(
        &self,
        new: &Ruleset,
        plan: &Plan,
        options: &CommitOptions,
        keeps_routes: bool,
    ) -> Result<(Attachments, Vec<ServiceId>)> {
        let current = self.files.generation(self.generation);
        if plan.is_empty() {
            // Routes and indexes of interfaces alone are nothing to go back to.
            let (previous, kept_routes) = (open_previous(&current)?, is_there(&current.kept_routes())?);
            return Ok((Attachments { keeps_routes, previous, kept_routes, deadline: None }, Vec::new()));
        }
        let previous = Some(keep_previous(self.ruleset()?, new, plan)?);
        let deadline = options.confirm_within.map(deadline).transpose()?;
        let attachments = Attachments { keeps_routes, previous, kept_routes: self.keeps_routes, deadline };
        Ok((attachments, self.leaving()?))
    }

    /// Whether Inlet keeps the local routes of the ruleset in force.
    pub fn keeps_routes(&self) -> bool {
        self.keeps_routes
    }

    /// The services of the previous ruleset that are not in the one in force. They have what they had, as one can go
    /// back to them, and one cannot when another ruleset has come.
    fn leaving(&self) -> Result<Vec<ServiceId>> {
        let (services, previous) = (self.ruleset()?.services(), self.previous_services()?);
        Ok(previous.iter().map(|(id, _)| id).filter(|id| services.get(*id).is_none()).collect())
    }

    /// Takes the step: all that can fail, then the commit point, then what must follow it. Until the commit point everything is
    /// taken back when something fails.
    fn take(&mut self, mut step: Step, plan: &Plan, without: &mut Vec<Error>) -> Result<(Ruleset, RouteChanges)> {
        capability::require("changing the rules", &[Capability::Perfmon])?;
        let next = self.files.generation(self.generation + 1);
        begin(&next, Readers::of(&self.files.0)?)?;
        if let Err(reason) = self.ready(&mut step, plan, &next, without) {
            self.unfinished = true;
            // What cannot be taken back now, the next command does.
            let _ = self.finish_commit();
            return Err(reason);
        }
        fault::point("commit:swapped");
        let generation = self.generation + 1;
        let previous = std::mem::replace(&mut self.generation, generation);
        let before = self.in_force(step.new);
        self.unfinished = true;
        let direction = step.direction;
        let rest = Rest { gone: step.gone, prepared: step.prepared, routes: step.routes, previous };
        match self.follow_up(rest, plan) {
            Ok(routes) => {
                self.unfinished = false;
                Ok((before, routes))
            }
            Err(cause) if direction == Direction::Back => {
                without.push(cause);
                Ok((before, RouteChanges::default()))
            }
            Err(cause) => Err(CommitError::Unfinished { generation, cause: Box::new(cause) }.into()),
        }
    }

    /// Makes all that the new ruleset needs, and puts it in force.
    fn ready(&self, step: &mut Step, plan: &Plan, files: &GenerationFiles, without: &mut Vec<Error>) -> Result<()> {
        let image = self.files.generation(self.generation).image();
        let marks = self.attach_marks(&step.new, step.direction, without)?;
        let answers = self.ready_answers(&step.new, step.direction, without)?;
        let shared = Self::shared_answers(answers.as_ref());
        let sticky = self.ready_sticky(&step.new, step.direction, without)?;
        let own_ports = self.own_ports_of(&step.new);
        let shared = SharedMaps { marks: marks.as_ref(), sticky: sticky.as_ref(), own_ports, ..shared };
        let new = (&step.new, plan);
        let generation = Generation::load_after(self.ruleset()?, &image, new, &self.maps, shared)?;
        fault::point("commit:loaded");
        let placed = match self.stage(plan, &step.new, &step.prepared) {
            Err(error) => {
                step.prepared = step.direction.without(error, without)?;
                Placed::default()
            }
            placed => placed?,
        };
        fault::point("commit:staged");
        generation.pin(&step.attachments, files, Readers::of(&self.files.0)?)?;
        fault::point("commit:pinned");
        let lanes = Lanes::map(&self.maps.lanes)?;
        if let Err(error) = step.routes.as_ref().map_or(Ok(()), RoutePlan::before_commit) {
            step.routes = step.direction.without(error, without)?;
        }
        placed.show(&lanes);
        // The commit point: packets before this call see the old ruleset whole, packets after it the new one whole.
        let swapped = raw::link_update(self.link.as_fd(), generation.program.as_fd());
        swapped.map_err(|cause| {
            placed.take_out(&self.maps);
            Error::at("update", &self.files.link())(cause)
        })
    }

    /// What follows the commit point. Nobody puts sockets into the slots of services that are gone before these are emptied.
    fn follow_up(&self, rest: Rest, plan: &Plan) -> Result<RouteChanges> {
        let routes = rest.routes.map_or_else(|| Ok(RouteChanges::default()), RoutePlan::after_commit)?;
        self.finish_answers().and_then(|()| self.finish_sticky())?;
        self.describe(&rest.prepared)?;
        if !matches!(rest.prepared, Prepared::Same) {
            self.find_after(plan)?;
        }
        self.retire(&rest.gone)?;
        fault::point("commit:retired");
        self.keep_marks()?;
        remove_all(&self.files.generation(rest.previous).0)?;
        if self.generation.is_multiple_of(COMMITS_WITHOUT_PAUSE) {
            wait_for_packets()?;
        }
        Ok(routes)
    }

    /// Looks up the index of every interface that rules name; those that are known may be gone.
    pub(crate) fn resolve_interfaces(&self, builder: &mut Builder, known: &[Interface]) -> Result<()> {
        resolve_interfaces(builder, self.location.netns(), known)
    }
}
