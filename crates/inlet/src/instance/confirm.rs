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
        self.stuck = None;
        let path = self.files.generation(self.generation).deadline();
        // The commit point: without the pin nobody goes back.
        match std::fs::remove_file(&path) {
            Ok(()) => {
                fault::point("confirm:confirmed");
                // Nobody needs it any more; the next commit removes it with the generation.
                let _ = std::fs::remove_dir(self.files.generation(self.generation).waiting());
            }
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
    ///
    /// When that fails, what needs it fails with the reason ([`Instance::require_back`]). To confirm, to roll back and to
    /// take sockets out goes on even so.
    pub(crate) fn go_back_when_over(&mut self) {
        let unconfirmed = self.generation;
        let is_over = match pending(&self.files.generation(unconfirmed)) {
            Ok(pending) => matches!(pending, Some(Pending { left: None, .. })),
            Err(error) => {
                self.stuck = Some(error);
                return;
            }
        };
        if !is_over {
            return;
        }
        match self.roll_back(&CommitOptions::default()) {
            Ok(committed) => {
                self.unconfirmed = Some(unconfirmed);
                self.without = committed.without;
            }
            Err(cause) => {
                let error = ConfirmError::GoBack { generation: unconfirmed, cause: Box::new(cause) };
                self.stuck = Some(Error::Confirm(error));
            }
        }
    }

    /// Fails when opening the instance had to go back and could not.
    pub(crate) fn require_back(&mut self) -> Result<()> {
        self.stuck.take().map_or(Ok(()), Err)
    }

    /// What that went without, and why: see [`Committed::without`](super::Committed::without).
    pub fn went_without(&self) -> &[Error] {
        &self.without
    }
}

/// Whole seconds, a part of one counting as one.
fn seconds(left: Option<Duration>) -> u64 {
    left.map_or(0, |left| left.as_secs() + u64::from(left.subsec_nanos() > 0))
}
