//! What an interrupted commit left: it is finished or taken back by the next command.
//!
//! What cannot be finished now keeps nobody from going back, nor from changes that need no service anew: it waits, and
//! whoever goes on is told of it.

use inlet_core::{MAX_SERVICES, Plan, ServiceChange, ServiceId, Services};

use super::Instance;
use super::commit::Direction;
use crate::error::{Error, Result};
use crate::route::{self, RoutePlan};
use crate::state::{GenerationFiles, is_there, read_ruleset, remove_all};

impl Instance {
    /// Finishes or takes back what an earlier commit left, if anything.
    ///
    /// # Errors
    /// The first of what cannot be done now.
    pub(crate) fn finish_commit(&mut self) -> Result<()> {
        self.finish().into_iter().next().map_or(Ok(()), Err)
    }

    /// The same before a commit. One that can go on without it is told what waits; it is kept for a later command.
    pub(super) fn finish_before(&mut self, plan: &Plan, direction: Direction) -> Result<Vec<Error>> {
        let failed = self.finish();
        if failed.is_empty() {
            return Ok(failed);
        }
        // The number of a service that went may still be known to programs, so that nobody can have it anew.
        let takes_numbers = |change: &ServiceChange| {
            matches!(change, ServiceChange::Added(..) | ServiceChange::Described { new: Some(_), .. })
        };
        if direction == Direction::Forward && plan.services.iter().any(takes_numbers) {
            return failed.into_iter().next().map_or(Ok(Vec::new()), Err);
        }
        self.set_aside()?;
        Ok(failed)
    }

    /// Brings routes and descriptions to what the ruleset in force says, and removes generations that are not in force.
    /// Gives what could not be done.
    pub(super) fn finish(&mut self) -> Vec<Error> {
        if !self.unfinished {
            return Vec::new();
        }
        let left = match self.all_left() {
            Ok(left) => left,
            Err(error) => return vec![error],
        };
        let mut failed: Vec<Error> = Vec::new();
        failed.extend(self.finish_routes(&left).err());
        failed.extend(self.keep_marks().err());
        failed.extend(self.finish_answers().err());
        failed.extend(self.finish_sticky().err());
        match self.finish_services(&left) {
            Err(error) => failed.push(error),
            Ok(()) if failed.is_empty() => {
                failed.extend(left.iter().try_for_each(|files| remove_all(&files.0)).err());
            }
            Ok(()) => {}
        }
        self.unfinished = !failed.is_empty();
        failed
    }

    /// The generations that interrupted commits left.
    fn all_left(&self) -> Result<Vec<GenerationFiles>> {
        let generations = self.files.generations()?.into_iter().filter(|number| *number != self.generation);
        let begun = generations.map(|number| self.files.generation(number));
        Ok(begun.chain(self.files.all_left()?.into_iter().map(|number| self.files.left(number))).collect())
    }

    /// Keeps what generations left in another place, so that their numbers can be used.
    fn set_aside(&self) -> Result<()> {
        for number in self.files.generations()?.into_iter().filter(|number| *number != self.generation) {
            let (from, to) = (self.files.generation(number), self.files.left(number));
            remove_all(&to.0)?;
            std::fs::rename(&from.0, &to.0).map_err(Error::at("rename", &from.0))?;
        }
        Ok(())
    }

    /// Brings the local routes to what the generation in force says. A route that cannot be made now is for the next
    /// commit to complain about: it must not keep anybody from changing the rules.
    fn finish_routes(&self, left: &[GenerationFiles]) -> Result<()> {
        let netns = self.location.netns();
        if !self.keeps_routes {
            let kept = left.iter().map(GenerationFiles::keeps_routes).collect::<Result<Vec<bool>>>()?.contains(&true);
            return if kept { route::remove_all(netns).map(drop) } else { Ok(()) };
        }
        match RoutePlan::of(self.ruleset()?, netns) {
            Err(Error::Route(_)) => Ok(()),
            routes => routes?.carry_out().map(drop),
        }
    }

    /// Brings descriptions and sockets to what the generation in force says.
    fn finish_services(&self, left: &[GenerationFiles]) -> Result<()> {
        let (services, previous) = (self.ruleset()?.services(), self.previous_services()?);
        let is_gone = |id: &ServiceId| services.get(*id).is_none() && previous.get(*id).is_none();
        let gone: Vec<ServiceId> = (1..MAX_SERVICES).filter_map(ServiceId::new).filter(is_gone).collect();
        self.describe_again()?;
        let mut others: Vec<Services> = Vec::new();
        for files in left {
            // One that was not pinned yet changed nothing.
            if is_there(&files.image())? {
                others.push(read_ruleset(&files.image())?.services().clone());
            }
        }
        self.find_again(&others)?;
        self.retire(&gone)
    }
}
