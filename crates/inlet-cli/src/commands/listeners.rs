//! The command that lists what sockets and services receive.

use inlet::rules::Ruleset;
use inlet::{Listeners, Snapshot};

use super::location;
use crate::args::Cli;
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn listeners(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let location = location(cli)?;
    let snapshot = Snapshot::open_if_up(&location)?;
    let listeners = Listeners::of(&location, snapshot.as_ref())?;
    let ruleset = snapshot.map_or_else(Ruleset::empty, Snapshot::into_ruleset);
    render::listeners(screen, &ruleset, &listeners)
}
