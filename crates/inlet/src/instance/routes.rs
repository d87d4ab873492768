//! The local routes of a commit: those that its ruleset needs, as far as they can be had.

use inlet_core::{Ruleset, steered_prefixes};

use super::Instance;
use super::commit::Direction;
use crate::error::{Error, Result, RouteError};
use crate::route::RoutePlan;

impl Instance {
    /// The routes for a ruleset, and what becomes of those that are there; `None` when they are none of ours.
    pub(super) fn route_plan(
        &self,
        new: &Ruleset,
        [keeps, kept]: [bool; 2],
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Option<RoutePlan>> {
        let netns = self.location.netns();
        let planned = match (keeps, kept, direction) {
            (true, _, Direction::Forward) => self.route_plan_forward(new, without).map(Some),
            (true, _, Direction::Back) => RoutePlan::of_what_can_be(new, netns, without).map(Some),
            (false, true, _) => RoutePlan::none(netns).map(Some),
            (false, false, _) => Ok(None),
        };
        planned.or_else(|error| direction.without(error, without))
    }

    /// A route that the ruleset in force lacks already keeps nobody from changing other rules.
    fn route_plan_forward(&self, new: &Ruleset, without: &mut Vec<Error>) -> Result<RoutePlan> {
        let netns = self.location.netns();
        let planned = RoutePlan::of(new, netns);
        let Err(Error::Route(RouteError::CutsOff { .. })) = &planned else { return planned };
        let known = steered_prefixes(self.ruleset()?.rules());
        let lacks =
            |error: &Error| matches!(error, Error::Route(RouteError::CutsOff { prefix, .. }) if known.covers(prefix));
        let mut missing = Vec::new();
        let rest = RoutePlan::of_what_can_be(new, netns, &mut missing)?;
        if !self.keeps_routes || !missing.iter().all(lacks) {
            return planned;
        }
        without.append(&mut missing);
        Ok(rest)
    }
}
