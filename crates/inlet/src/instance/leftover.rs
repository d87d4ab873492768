//! What is left where nobody goes on: of namespaces that ended, and of commands that were interrupted while they made,
//! removed or took over an instance.
//!
//! A running command keeps its directory. Who makes or removes an instance holds the lock of all instances, who takes one
//! over that of the instance: both are waited for, and then it shows what is left.

use super::lifecycle::{RootLock, remove_instance};
use super::{Instance, takeover};
use crate::error::{Error, Result, StateError};
use crate::state::{Exclusive, Listed, Location, Root, Unfinished, is_there, remove_all};

impl Listed {
    /// Removes what nobody needs any more: an instance whose namespace has ended, or what an interrupted command left. A
    /// takeover is finished for that. `false` when it stays: its namespace is there, or cannot be found.
    ///
    /// # Errors
    /// Those of removing, and of [`Instance::open`] for a takeover.
    pub fn remove(&self) -> Result<bool> {
        match (self.unfinished, &self.location) {
            (None, _) => self.remove_ended(),
            (Some(Unfinished::Takeover), Some(location)) => match finish_takeover(location) {
                // Nobody takes over what is not there.
                Err(Error::State(StateError::NotUp { .. })) => self.remove_half(),
                finished => finished.map(|()| true),
            },
            (Some(_), _) => self.remove_half(),
        }
    }

    /// Removes what is no instance, whoever began with it.
    fn remove_half(&self) -> Result<bool> {
        let _root = RootLock::take(&Root::holding(&self.directory))?;
        let _lock = Exclusive::on(&self.published())?;
        // While one waited for the lock, who had it may have ended well.
        if !is_there(&self.directory)? {
            return Ok(true);
        }
        match &self.location {
            Some(location) => remove_instance(location, &self.directory)?,
            None if self.steers => return Ok(false),
            None => remove_all(&self.directory)?,
        }
        Ok(true)
    }
}

/// Finishes a takeover that was interrupted, as any command does that changes the instance.
fn finish_takeover(location: &Location) -> Result<()> {
    let mut instance = Instance::open(location.clone())?;
    instance.finish_commit()?;
    takeover::clear(location)
}
