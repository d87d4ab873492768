//! What follows an interrupted commit: whoever opens the instance for writing next takes it back when it did not reach
//! its commit point, and finishes it when it did.

use std::os::fd::AsFd;

use inlet_core::{ServiceId, Services};

use super::Instance;
use crate::error::{Error, Result};
use crate::route::{self, RoutePlan};
use crate::state::{generations, read_ruleset, remove_all};

impl Instance {
    /// Finishes or takes back what an earlier commit left, if anything: brings routes and descriptions to what the
    /// ruleset in force says, and removes generations that are not in force.
    pub(crate) fn finish_commit(&mut self) -> Result<()> {
        if !self.unfinished {
            return Ok(());
        }
        let left = generations(&self.files, self.link.as_fd())?.left;
        let (services, previous) = (self.ruleset()?.services(), self.previous_services()?);
        let is_gone = |id: &ServiceId| services.get(*id).is_none() && previous.get(*id).is_none();
        let gone: Vec<ServiceId> = (1..inlet_core::MAX_SERVICES).filter_map(ServiceId::new).filter(is_gone).collect();
        self.finish_routes(&left)?;
        self.describe_again()?;
        // One that was not pinned yet changed nothing.
        let image = |number: &u64| read_ruleset(&self.files.generation(*number).image()).ok();
        let others: Vec<Services> = left.iter().filter_map(image).map(|ruleset| ruleset.services().clone()).collect();
        self.find_again(&others)?;
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
        match RoutePlan::of(self.ruleset()?, netns) {
            Err(Error::Route(_)) => Ok(()),
            routes => routes?.carry_out().map(drop),
        }
    }
}
