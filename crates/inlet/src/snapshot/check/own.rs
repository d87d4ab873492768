//! Own binds: whether programs still find a port of their own.

use super::{Checkup, Severity};
use crate::error::Result;
use crate::snapshot::Snapshot;

pub(super) fn check(snapshot: &Snapshot, found: &mut Checkup) -> Result<()> {
    let Some((range, taken)) = snapshot.own_ports()? else { return Ok(()) };
    let (all, percent) = (u32::from(range.width()), 100 * taken / u32::from(range.width().max(1)));
    let severity = match percent {
        100.. => Severity::Error,
        90.. => Severity::Warning,
        _ => return Ok(()),
    };
    found.add(
        severity,
        "own-ports-full",
        format!("{taken} of the {all} ports for own binds ({range}) are taken"),
        "when none is left, a program that asks for one more gets \"address already in use\" from bind()",
        "name with --listen which ports are meant, so that others stay; or take a wider range: inlet down, then inlet up --own-ports FIRST-LAST, then apply the rules again",
    );
    Ok(())
}
