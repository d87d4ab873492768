//! The ruleset before the one in force, which is kept to go back to.

use inlet_core::Services;
use inlet_core::config::Routes;
use inlet_core::image::Previous;

use super::commit::Direction;
use super::{CommitOptions, Committed, Instance};
use crate::error::{ConfirmError, Error, Result};
use crate::state::{is_there, read_words};

impl Instance {
    /// Puts the ruleset in force that was so before, also when the one in force waits for confirmation. The other way
    /// round the same brings back what is in force now. Services that come back have the sockets that they had.
    ///
    /// Inlet keeps the local routes if it did so then, unless `options` say otherwise.
    ///
    /// # Errors
    /// [`crate::ConfirmError::NoPrevious`], and those of [`Instance::commit`].
    pub fn roll_back(&mut self, options: &CommitOptions) -> Result<Committed> {
        let files = self.files.generation(self.generation);
        let path = files.previous();
        if !is_there(&path)? {
            return Err(Error::Confirm(ConfirmError::NoPrevious));
        }
        let then = if is_there(&files.kept_routes())? { Routes::Manage } else { Routes::Leave };
        let previous = read_words(&path, Previous::decode)?;
        let mut builder = previous.builder(self.ruleset()?)?;
        let named = builder.interfaces().to_vec();
        // One that has another name now, or cannot be asked for, has the index that it had.
        let mut without = Vec::new();
        if let Err(error) = self.resolve_interfaces(&mut builder, &named) {
            without.push(error);
        }
        let options = CommitOptions { routes: options.routes.or(Some(then)), ..*options };
        let mut committed = self.put(builder.finish()?, &options, Direction::Back)?;
        self.stuck = None;
        committed.without.splice(0..0, without);
        Ok(committed)
    }

    /// The services of the previous ruleset.
    pub(crate) fn previous_services(&self) -> Result<Services> {
        let path = self.files.generation(self.generation).previous();
        if is_there(&path)? { read_words(&path, Previous::decode_services) } else { Ok(Services::default()) }
    }
}
