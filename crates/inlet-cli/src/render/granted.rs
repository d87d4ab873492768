//! What `inlet grantd` did for this command.

use inlet::Done;
use serde::Serialize;

use super::{Screen, printable};
use crate::failure::Failure;

#[derive(Serialize)]
struct Granted<'a> {
    by: &'static str,
    generation: Option<u64>,
    done: &'a [String],
}

pub(crate) fn granted(screen: &mut Screen<'_>, done: &Done) -> Result<(), Failure> {
    let Done { generation, lines } = done;
    if screen.json {
        return screen.document(&Granted { by: "grantd", generation: *generation, done: lines });
    }
    for line in lines {
        writeln!(screen.out, "{}", printable(line))?;
    }
    match generation {
        Some(generation) => Ok(writeln!(screen.out, "generation {generation}, by inlet grantd")?),
        None => Ok(writeln!(screen.out, "by inlet grantd")?),
    }
}
