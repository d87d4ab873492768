//! The command that looks whether all is well.

use inlet::rules::Ruleset;
use inlet::rules::config::Parsed;
use inlet::{Checker, Snapshot, read_ruleset};

use super::{location, source};
use crate::args::{Check, Cli};
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn check(cli: &Cli, args: &Check, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let checker = Checker::new(location(cli)?);
    let nothing = Ruleset::empty();
    let old = checker.snapshot().map_or(&nothing, Snapshot::ruleset);
    let read = |file| -> Result<Parsed, Failure> { Ok(read_ruleset(source(file)?, checker.location().netns(), old)?) };
    let proposed = args.file.as_deref().map(read).transpose()?;
    let checkup = checker.check(proposed.as_ref())?;
    drop(checker);
    render::checkup(screen, &checkup)?;
    if checkup.has_errors() { Err(Failure::Found) } else { Ok(()) }
}
