//! A ruleset file that becomes the whole ruleset.

use std::time::Duration;

use inlet_core::config::{Parsed, Routes, Source};

use super::{Committed, Instance};
use crate::error::Result;
use crate::file::{not_there, read_ruleset};

/// How a ruleset file comes into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Within which time it has to be confirmed, as for [`Instance::replace_to_confirm`].
    pub confirm_within: Option<Duration>,
    /// Whether units, control groups and users that descriptions name need not be there yet.
    pub later: bool,
}

impl Instance {
    /// Makes the ruleset of a file the whole ruleset. Inlet keeps the local routes from then on when the file says so, or
    /// [`Instance::keep_routes`] did.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file, [`crate::DescribeError::NoUnit`], [`crate::DescribeError::NoCgroup`] and
    /// [`crate::DescribeError::UnknownUser`] for what a new description names, and those of [`Instance::replace`]. Nothing is changed then.
    pub fn apply(&mut self, file: Source) -> Result<Committed> {
        self.apply_with(file, ApplyOptions::default())
    }

    /// [`Instance::apply`] with options.
    ///
    /// # Errors
    /// As for [`Instance::apply`], and [`crate::ConfirmError::Unconfirmed`].
    pub fn apply_with(&mut self, file: Source, options: ApplyOptions) -> Result<Committed> {
        let parsed = self.parse(file)?;
        if !options.later
            && let Some((_, error)) = not_there(self.ruleset()?, &parsed.ruleset).next()
        {
            return Err(error);
        }
        self.keep_routes(parsed.routes == Routes::Manage || self.routes_next == Some(true));
        self.replace_to_confirm(parsed.ruleset, options.confirm_within)
    }

    /// Reads a ruleset file, with the services and interfaces of what is in force.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file.
    pub fn parse(&self, file: Source) -> Result<Parsed> {
        read_ruleset(file, self.location.netns(), self.ruleset()?)
    }
}
