//! Confirmation: a ruleset that is in force for a time only, unless somebody says that it may stay.
//!
//! The time is pinned beside the generation, so it comes into force in the same step, and to confirm is to remove that
//! pin. Whoever opens the instance for writing after the time is over goes back first. A process that waits does no
//! more than see to it that this happens in time: it holds nothing, and when it is killed the next command does it.

use std::time::Duration;

use super::{CommitOptions, Instance};
use crate::error::{ConfirmError, Error, Result};
use crate::fault;
use crate::state::{Pending, pending};

impl Instance {
    /// Lets the ruleset in force stay.
    ///
    /// # Errors
    /// [`crate::ConfirmError::NothingToConfirm`], and [`crate::ConfirmError::TooLate`] when opening the instance went
    /// back already.
    pub fn confirm(&mut self) -> Result<()> {
        if let Some(unconfirmed) = self.unconfirmed {
            return Err(Error::Confirm(ConfirmError::TooLate { unconfirmed, generation: self.generation }));
        }
        let path = self.files.generation(self.generation).deadline();
        // The commit point: without the pin nobody goes back.
        match std::fs::remove_file(&path) {
            Ok(()) => fault::point("confirm:confirmed"),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Confirm(ConfirmError::NothingToConfirm));
            }
            Err(cause) => return Err(Error::at("remove", &path)(cause)),
        }
        Ok(())
    }

    /// The generation that was not confirmed in time, when opening the instance went back from it to the one before.
    pub fn went_back_from(&self) -> Option<u64> {
        self.unconfirmed
    }

    /// Fails while the ruleset in force waits for confirmation: what is changed on top of it would go with it.
    pub(crate) fn require_confirmed(&self) -> Result<()> {
        match pending(&self.files.generation(self.generation))? {
            Some(Pending { left, .. }) => Err(Error::Confirm(ConfirmError::Unconfirmed { seconds: seconds(left) })),
            None => Ok(()),
        }
    }

    /// Puts the previous ruleset in force when the time to confirm this one is over.
    pub(crate) fn go_back_when_over(&mut self) -> Result<()> {
        let unconfirmed = self.generation;
        match pending(&self.files.generation(unconfirmed))? {
            Some(Pending { left: None, .. }) => {}
            _ => return Ok(()),
        }
        self.roll_back(&CommitOptions::default()).map_err(|cause| {
            Error::Confirm(ConfirmError::GoBack { generation: unconfirmed, cause: Box::new(cause) })
        })?;
        self.unconfirmed = Some(unconfirmed);
        Ok(())
    }
}

/// Whole seconds, a part of one counting as one.
fn seconds(left: Option<Duration>) -> u64 {
    left.map_or(0, |left| left.as_secs() + u64::from(left.subsec_nanos() > 0))
}
