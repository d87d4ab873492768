//! What a commit makes for the descriptions of its ruleset, before its commit point.

use inlet_core::Ruleset;

use super::claims::Claims;
use super::described;
use super::programs::Programs;
use crate::error::Result;
use crate::kernel::Cgroups;

/// What a commit is going to put in force for the descriptions of its ruleset.
#[derive(Debug, Default)]
pub(crate) enum Prepared {
    /// They stay as they are.
    Same,
    /// There are none any more, or none can be had.
    #[default]
    None,
    /// These programs for these wants.
    Some(Box<Programs>, Claims),
}

/// What the descriptions of services want, when there are any.
pub(crate) fn claims_of(ruleset: &Ruleset) -> Result<Option<Claims>> {
    match described(ruleset.services()).next() {
        Some(_) => Claims::of(ruleset, &Cgroups::find()?).map(Some),
        None => Ok(None),
    }
}
