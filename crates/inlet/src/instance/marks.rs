//! What hands marks over to the rules: attached before a commit whose rules have marks, gone after one without.

use inlet_core::Ruleset;
use libbpf_rs::MapHandle;

use super::Instance;
use super::commit::Direction;
use crate::error::{Error, Result};
use crate::program::marks;
use crate::state::Readers;

impl Instance {
    /// Attaches what the rules of a new ruleset need, and gives the map that marks come in; `None` when they need none.
    /// What the rules in force need stays.
    pub(super) fn attach_marks(
        &self,
        new: &Ruleset,
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Option<MapHandle>> {
        let files = self.files.marks();
        let Some(slots) = marks::slots(&files, new, Readers::of(&self.files.0)?)? else { return Ok(None) };
        if let Err(error) = marks::attach_missing(&files, new, &slots, self.location.netns()) {
            // Without them no packet has a mark that is known.
            direction.without::<()>(error, without)?;
        }
        Ok(Some(slots))
    }

    /// Whether something is gone that the rules in force need: a commit that changes nothing else makes it anew.
    pub(super) fn lacks_marks(&self) -> Result<bool> {
        Ok(!marks::missing(&self.files.marks(), self.ruleset()?)?.is_empty())
    }

    /// Detaches what the rules in force do not need.
    pub(super) fn keep_marks(&self) -> Result<()> {
        marks::keep_needed(&self.files.marks(), self.ruleset()?)
    }
}
