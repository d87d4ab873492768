//! What keeps a ruleset from being confirmed or taken back.

use std::borrow::Cow;

use super::Error;

/// What keeps a ruleset from being confirmed or taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// Another ruleset waits to be confirmed.
    #[error("the ruleset in force waits for confirmation, and goes in {seconds} seconds without it")]
    Unconfirmed {
        /// How much time is left.
        seconds: u64,
    },
    /// Nothing is to be confirmed.
    #[error("nothing waits for confirmation")]
    NothingToConfirm,
    /// The time to confirm was over, and the previous ruleset is in force again.
    #[error(
        "too late: generation {unconfirmed} was not confirmed in time, and the previous ruleset is in force again (generation {generation})"
    )]
    TooLate {
        /// What was not confirmed.
        unconfirmed: u64,
        /// What is in force.
        generation: u64,
    },
    /// The time to confirm is over, and the previous ruleset could not be put in force.
    #[error(
        "generation {generation} was not confirmed in time, and going back to the previous ruleset failed: {cause}"
    )]
    GoBack {
        /// What was not confirmed.
        generation: u64,
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// The process that was to wait for confirmation ended before it did.
    #[error("the process that waits for confirmation ended at once, so the previous ruleset is in force again")]
    NobodyWaits,
    /// The instance has had one ruleset only.
    #[error("there is no previous ruleset to go back to: nothing was changed since inlet up")]
    NoPrevious,
}

impl ConfirmError {
    pub(super) fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unconfirmed { .. } => Some("inlet confirm, or inlet rollback".into()),
            Self::NothingToConfirm => Some("look at what is in force with: inlet status".into()),
            Self::GoBack { cause, .. } => cause.remedy(),
            Self::TooLate { .. } | Self::NobodyWaits | Self::NoPrevious => None,
        }
    }
}
