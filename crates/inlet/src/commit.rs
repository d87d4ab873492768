//! Commits: one ruleset takes the place of another, in one step.

use std::os::fd::AsFd;

use inlet_core::{Builder, InterfaceName, Plan, Ruleset, ServiceId};

use crate::capability::{self, Capability};
use crate::error::{Error, Result};
use crate::fault;
use crate::generation::Generation;
use crate::group::Readers;
use crate::instance::Instance;
use crate::layout::remove_all;
use crate::raw;

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// The generation in force afterwards.
    pub generation: u64,
    /// What changed. When nothing did, the generation is the one that was in force before.
    pub plan: Plan,
    /// The ruleset before, to which removed rules and former verdicts of the plan belong.
    pub before: Ruleset,
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
    /// Whatever keeps it from being in force. Nothing is changed then.
    pub fn commit(&mut self, mut builder: Builder) -> Result<Committed> {
        self.resolve_interfaces(&mut builder)?;
        self.commit_as_is(builder)
    }

    /// [`Instance::commit`] with the indexes that the builder has for its interfaces, whether there are such or not.
    ///
    /// # Errors
    /// As for [`Instance::commit`].
    pub fn commit_as_is(&mut self, builder: Builder) -> Result<Committed> {
        let new = builder.finish()?;
        let old = self.ruleset()?;
        let plan = Plan::between(old, &new);
        if plan.is_empty() && old.interfaces() == new.interfaces() {
            return Ok(Committed { generation: self.generation, plan, before: Ruleset::empty() });
        }
        let gone: Vec<ServiceId> =
            old.services().iter().map(|(id, _)| id).filter(|id| new.services().get(*id).is_none()).collect();
        let before = self.swap(new, &gone)?;
        Ok(Committed { generation: self.generation, plan, before })
    }

    fn swap(&mut self, new: Ruleset, gone: &[ServiceId]) -> Result<Ruleset> {
        let next = self.generation + 1;
        capability::require("changing the rules", &[Capability::Perfmon])?;
        let generation = Generation::load(&new, &self.maps)?;
        fault::point("commit:loaded");
        let files = self.files.generation(next);
        if let Err(error) = generation.pin(&files, Readers::of(&self.files.0)?) {
            remove_all(&files.0)?;
            return Err(error);
        }
        fault::point("commit:pinned");
        // The commit point: packets before this call see the old ruleset whole, packets after it the new one whole.
        if let Err(cause) = raw::link_update(self.link.as_fd(), generation.program.as_fd()) {
            remove_all(&files.0)?;
            return Err(Error::at("update", &self.files.link())(cause));
        }
        fault::point("commit:swapped");
        let former = std::mem::replace(&mut self.generation, next);
        let before = self.in_force(new);
        self.retire(gone)?;
        fault::point("commit:retired");
        remove_all(&self.files.generation(former).0)?;
        Ok(before)
    }

    /// Looks up the index of every interface that rules name. One that has been named before may be gone meanwhile.
    fn resolve_interfaces(&self, builder: &mut Builder) -> Result<()> {
        if builder.interfaces().is_empty() {
            return Ok(());
        }
        let known: Vec<&InterfaceName> = self.ruleset()?.interfaces().iter().map(|interface| &interface.name).collect();
        let names: Vec<InterfaceName> = builder.interfaces().iter().map(|interface| interface.name.clone()).collect();
        let mut indexes = Vec::new();
        for name in names {
            let index = match self.location.netns().interface_index(&name)? {
                None if !known.contains(&&name) => {
                    let netns = self.location.netns().label().to_owned();
                    return Err(Error::UnknownInterface { name: name.to_string(), netns });
                }
                index => index.unwrap_or(0),
            };
            indexes.push((name, index));
        }
        builder
            .resolve_interfaces(|name| indexes.iter().find(|(known, _)| known == name).map_or(0, |(_, index)| *index));
        Ok(())
    }
}
