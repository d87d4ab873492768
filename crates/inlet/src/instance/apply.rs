//! A ruleset file that becomes the whole ruleset.

use inlet_core::config::{Parsed, Routes, Source};

use super::{CommitOptions, Committed, Instance};
use crate::error::Result;
use crate::file::{not_there, read_reserving};

/// How a ruleset file comes into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// How its ruleset comes into force. Inlet keeps the local routes when the file or `routes` says so.
    pub commit: CommitOptions,
    /// Whether units, control groups and users that descriptions name need not be there yet.
    pub later: bool,
}

impl Instance {
    /// Makes the ruleset of a file the whole ruleset.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file, [`crate::DescribeError::NoUnit`],
    /// [`crate::DescribeError::NoCgroup`] and [`crate::DescribeError::UnknownUser`] for what a new description names,
    /// and those of [`Instance::commit`]. Nothing is changed then.
    pub fn apply(&mut self, file: Source, options: &ApplyOptions) -> Result<Committed> {
        let Parsed { ruleset, routes, skipped } = self.parse(file)?;
        if !options.later
            && let Some((_, error)) = not_there(self.ruleset()?, &ruleset).next()
        {
            return Err(error);
        }
        let managed = routes == Routes::Manage || options.commit.routes == Some(Routes::Manage);
        let routes = if managed { Routes::Manage } else { Routes::Leave };
        let committed = self.commit(ruleset, &CommitOptions { routes: Some(routes), ..options.commit })?;
        Ok(Committed { skipped, ..committed })
    }

    /// Reads a ruleset file, with the services and interfaces of what is in force.
    ///
    /// # Errors
    /// [`crate::FileError::Wrong`] with all that is wrong with the file.
    pub fn parse(&self, file: Source) -> Result<Parsed> {
        read_reserving(file, self.location.netns(), self.ruleset()?, Some(&self.previous_services()?))
    }
}
