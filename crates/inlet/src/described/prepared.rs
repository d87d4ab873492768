//! What a commit makes for the descriptions of its ruleset, before its commit point.

use inlet_core::Services;

use super::described;
use super::programs::Programs;
use super::wants::Wants;
use crate::error::Result;
use crate::kernel::Cgroups;

/// What a commit is going to put in force for the descriptions of its ruleset.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// They stay as they are.
    Same,
    /// There are none any more.
    None,
    /// These programs for these wants.
    Some(Box<Programs>, Wants),
}

/// What the descriptions of services want, when there are any.
pub(crate) fn wants_of(services: &Services) -> Result<Option<Wants>> {
    match described(services).next() {
        Some(_) => Wants::of(services, &Cgroups::find()?).map(Some),
        None => Ok(None),
    }
}
