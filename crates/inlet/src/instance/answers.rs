//! Where answers over UDP leave from: what a commit attaches before its commit point, and detaches after it.

use inlet_core::Ruleset;

use super::Instance;
use super::commit::Direction;
use crate::answers;
use crate::error::{AnswersError, Error, Result};
use crate::state::{AnswerMaps, Readers};

impl Instance {
    /// Attaches what a ruleset needs so that answers leave from where they were asked, before its commit point. `None`: none
    /// does, or this host cannot do it and no service insists.
    pub(super) fn ready_answers(
        &self,
        new: &Ruleset,
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Option<AnswerMaps>> {
        let Some(needs) = answers::needs(new) else { return Ok(None) };
        let readers = Readers::of(&self.files.0)?;
        match answers::attach(&self.files.answers(), needs, self.location.netns(), readers) {
            Ok(maps) => Ok(Some(maps)),
            Err(cause) => match needs.insists.and_then(|id| new.services().get(id)) {
                Some(service) => {
                    let (service, cause) = (service.name.to_string(), Box::new(cause));
                    direction.without(AnswersError::NotHere { service, cause }.into(), without)
                }
                None => Ok(None),
            },
        }
    }

    /// Detaches what the generation in force does not need, and attaches what it lacks: after a commit, and after one that was
    /// interrupted. What cannot be attached keeps nobody from changing the rules.
    pub(super) fn finish_answers(&self) -> Result<()> {
        let files = self.files.answers();
        if !files.are_there()? {
            return Ok(());
        }
        let notes_flows = self.files.generation(self.generation).notes_flows()?;
        match answers::needs(self.ruleset()?).filter(|_| notes_flows) {
            Some(needs) => {
                let _ = answers::attach(&files, needs, self.location.netns(), Readers::of(&self.files.0)?);
                answers::detach_needless(&files, needs, self.location.netns())
            }
            None => answers::remove(&files, self.location.netns()),
        }
    }
}
