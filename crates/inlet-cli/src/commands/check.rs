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
    let mut checkup = match (&args.file, &args.in_force) {
        (_, Some(file)) => checker.check_in_force(&read(file)?, file)?,
        (file, None) => checker.check(file.as_deref().map(read).transpose()?.as_ref())?,
    };
    drop(checker);
    checkup.findings.retain(|finding| !args.ignore.iter().any(|code| code == finding.code));
    render::checkup(screen, &checkup, args.quiet)?;
    if checkup.has_errors() { Err(Failure::Found) } else { Ok(()) }
}
