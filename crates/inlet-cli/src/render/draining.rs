//! What is left on sockets that are being drained.

use inlet::{Draining, Left};
use serde::Serialize;

use super::{Screen, counted};
use crate::failure::Failure;

#[derive(Serialize)]
struct Report {
    flows: usize,
    /// The age of the youngest one in seconds.
    youngest: Option<u64>,
    connections: u32,
}

/// Says what begins.
pub(crate) fn draining(screen: &mut Screen<'_>, service: &str, draining: &Draining) -> Result<(), Failure> {
    if screen.json {
        return Ok(());
    }
    let sockets = counted(draining.sockets, "socket");
    writeln!(screen.out, "{sockets} of service {service}: nothing new gets there")?;
    if draining.sticky == 0 {
        writeln!(screen.out, "flows over UDP go to the other sockets: the service is not sticky")?;
    }
    Ok(screen.out.flush()?)
}

/// Says what is left: people are told of each change, programs of the end.
pub(crate) fn left(screen: &mut Screen<'_>, left: &Left, is_last: bool) -> Result<(), Failure> {
    let Left { flows, youngest, connections } = *left;
    let seconds = youngest.map(|age| age.as_secs());
    if screen.json {
        return if is_last { screen.document(&Report { flows, youngest: seconds, connections }) } else { Ok(()) };
    }
    if left.is_nothing() {
        writeln!(screen.out, "nothing is left")?;
        return Ok(screen.out.flush()?);
    }
    let flows = counted(flows, "flow");
    let youngest = seconds.map_or_else(String::new, |age| format!(", the youngest {age} s old"));
    let waiting = match connections {
        0 => String::new(),
        _ => format!("; {} not accepted yet", counted(connections as usize, "connection")),
    };
    writeln!(screen.out, "{flows} left{youngest}{waiting}")?;
    Ok(screen.out.flush()?)
}
