//! The command that lists what sockets and services receive.

use inlet::core::Ruleset;
use inlet::{Listeners, Snapshot};

use super::location;
use crate::args::Cli;
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn listeners(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let (listeners, ruleset) = match Snapshot::open_if_up(location(cli)?)? {
        Ok(snapshot) => (Listeners::of(snapshot.location(), Some(&snapshot))?, snapshot.into_ruleset()),
        Err(location) => (Listeners::of(&location, None)?, Ruleset::empty()),
    };
    render::listeners(screen, &ruleset, &listeners)
}
