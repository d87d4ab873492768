//! A ruleset that is not in force yet, beside the one that is.

use std::ops::ControlFlow;

use inlet_core::config::{Parsed, Routes, Source};
use inlet_core::{Moved, Plan, Ruleset, traffic};

use super::Snapshot;
use crate::error::Result;
use crate::file::read_ruleset;

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

impl Snapshot {
    /// Reads a ruleset file, with the services and interfaces of what is in force.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file.
    pub fn parse(&self, file: Source) -> Result<Parsed> {
        read_ruleset(file, self.location.netns(), self.ruleset())
    }

    /// What [`crate::Instance::apply`] would make of a file.
    ///
    /// # Errors
    /// As there.
    pub fn propose(&self, file: Source) -> Result<Proposal> {
        let Parsed { ruleset: after, routes } = self.parse(file)?;
        let before = self.ruleset().clone();
        let plan = Plan::between(&before, &after);
        let (keeps_routes, would_keep_routes) = (self.keeps_routes(), routes == Routes::Manage);
        Ok(Proposal { generation: self.generation(), before, after, plan, keeps_routes, would_keep_routes })
    }
}
