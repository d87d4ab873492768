//! A ruleset that is not in force yet, beside the one that is.

use std::ops::ControlFlow;

use inlet_core::config::{Parsed, Routes, Skipped, Source};
use inlet_core::{Builder, Moved, Plan, Ruleset, traffic};

use super::change::resolve_interfaces;
use super::warning::{self, Step};
use super::{AnswersState, Edit, Receivers, Snapshot, Warning};
use crate::error::Result;
use crate::file::read_ruleset;
use crate::state::Location;

/// A ruleset that could take the place of the one in force.
#[derive(Debug)]
pub struct Proposal {
    /// The generation that is in force: what a commit of the proposal can expect.
    pub generation: u64,
    /// What is in force.
    pub before: Ruleset,
    /// What would be.
    pub after: Ruleset,
    /// What differs.
    pub plan: Plan,
    /// Whether Inlet keeps the local routes now.
    pub keeps_routes: bool,
    /// Whether it would.
    pub would_keep_routes: bool,
    /// What the lists of the file are read without.
    pub skipped: Vec<Skipped>,
}

/// Looks ahead: what a file or a change would make of the rules in force, or of none while Inlet is not up.
#[derive(Debug)]
pub struct Planner {
    location: Location,
    snapshot: Option<Snapshot>,
}

impl Proposal {
    /// Whether a commit would change nothing.
    pub fn is_empty(&self) -> bool {
        let same = self.before.interfaces() == self.after.interfaces() && self.keeps_routes == self.would_keep_routes;
        self.plan.is_empty() && same
    }

    /// Calls `each` with all packets that get another answer, until it breaks.
    pub fn traffic(&self, each: &mut dyn FnMut(Moved) -> ControlFlow<()>) {
        traffic(&self.before, &self.after, &self.plan, each);
    }
}

impl<'a> From<&'a Proposal> for Step<'a> {
    fn from(proposal: &'a Proposal) -> Self {
        let Proposal { before, after, plan, would_keep_routes, .. } = proposal;
        Self { before, after, plan, keeps_routes: *would_keep_routes, answers_unable: false }
    }
}

impl Planner {
    /// Opens the instance, if there is one.
    ///
    /// # Errors
    /// Those of [`Snapshot::open_if_up`].
    pub fn open(location: Location) -> Result<Self> {
        let snapshot = Snapshot::open_if_up(&location)?;
        Ok(Self { location, snapshot })
    }

    /// The instance, if there is one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// What [`crate::Instance::apply`] would make of a file.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file.
    pub fn propose(&self, file: Source) -> Result<Proposal> {
        let before = self.in_force();
        let Parsed { ruleset: after, routes, skipped } = read_ruleset(file, self.location.netns(), &before)?;
        Ok(Proposal { skipped, ..self.proposal(before, after, routes == Routes::Manage) })
    }

    /// What [`crate::Instance::carry_out`] would make of a change.
    ///
    /// # Errors
    /// As there.
    pub fn propose_edit(&self, edit: &Edit) -> Result<Proposal> {
        edit.check()?;
        let before = self.in_force();
        let mut builder = Builder::from_ruleset(before.clone());
        edit.make(&mut builder)?;
        resolve_interfaces(&mut builder, self.location.netns(), before.interfaces())?;
        let after = builder.finish()?;
        Ok(self.proposal(before, after, self.snapshot.as_ref().is_some_and(Snapshot::keeps_routes)))
    }

    /// What the proposal would do that its author may not have meant. Each service and each listener is named once.
    ///
    /// # Errors
    /// Those of listing sockets and routes.
    pub fn warnings(&self, proposal: &Proposal) -> Result<Vec<Warning>> {
        let now = match &self.snapshot {
            Some(snapshot) => snapshot.receivers()?,
            None => Receivers::of(self.location.netns(), None)?,
        };
        let then = now.after(&proposal.before, &proposal.after);
        let answers = self.snapshot.as_ref().map(Snapshot::answers).transpose()?;
        let step = Step { answers_unable: answers == Some(AnswersState::Unable), ..proposal.into() };
        let found = warning::all(self.location.netns(), [&now, &then], &step, true)?;
        Ok(warning::skipped(&proposal.skipped).chain(found).collect())
    }

    fn in_force(&self) -> Ruleset {
        self.snapshot.as_ref().map_or_else(Ruleset::empty, |snapshot| snapshot.ruleset().clone())
    }

    fn proposal(&self, before: Ruleset, after: Ruleset, would_keep_routes: bool) -> Proposal {
        let plan = Plan::between(&before, &after);
        let keeps_routes = self.snapshot.as_ref().is_some_and(Snapshot::keeps_routes);
        let generation = self.snapshot.as_ref().map_or(0, Snapshot::generation);
        Proposal { generation, before, after, plan, keeps_routes, would_keep_routes, skipped: Vec::new() }
    }
}
