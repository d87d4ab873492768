//! What is left on sockets that are being drained.

use inlet::{Drained, Draining, Left};
use serde::Serialize;

use super::socket::{self, Socket};
use super::table::Table;
use super::{Screen, counted};
use crate::failure::Failure;

#[derive(Serialize)]
struct Report {
    flows: usize,
    /// The age of the youngest one in seconds.
    youngest: Option<u64>,
    connections: u32,
}

impl From<&Left> for Report {
    fn from(left: &Left) -> Self {
        let Left { flows, youngest, connections } = *left;
        Self { flows, youngest: youngest.map(|age| age.as_secs()), connections }
    }
}

/// A socket that is being drained, of a service.
#[derive(Serialize)]
pub(super) struct OfService {
    #[serde(flatten)]
    socket: Socket,
    #[serde(flatten)]
    left: Report,
}

impl From<&Drained> for OfService {
    fn from(drained: &Drained) -> Self {
        Self { socket: Socket::from(&drained.socket), left: Report::from(&drained.left) }
    }
}

/// The service that a listener is drained from; `null` when that is gone.
#[derive(Serialize)]
pub(super) struct OfListener {
    service: Option<String>,
    #[serde(flatten)]
    left: Report,
}

impl From<&Drained> for OfListener {
    fn from(drained: &Drained) -> Self {
        let service = drained.service.as_ref().map(ToString::to_string);
        Self { service, left: Report::from(&drained.left) }
    }
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
    if screen.json {
        return if is_last { screen.document(&Report::from(left)) } else { Ok(()) };
    }
    writeln!(screen.out, "{}", words(left))?;
    Ok(screen.out.flush()?)
}

/// The sockets of a service that are being drained.
pub(super) fn write(screen: &mut Screen<'_>, drained: &[Drained]) -> Result<(), Failure> {
    if drained.is_empty() {
        return Ok(());
    }
    screen.line(screen.palette.changed, "being drained: nothing new gets there")?;
    let mut table = Table::default();
    for Drained { socket, left, .. } in drained {
        let [local, cookie, owners] = socket::words(socket);
        table.row([local, cookie, owners, words(left)]);
    }
    table.write(screen, 2)
}

/// What is left, in words.
pub(super) fn words(left: &Left) -> String {
    let Left { flows, youngest, connections } = *left;
    if left.is_nothing() {
        return "nothing is left".to_owned();
    }
    let mut parts = Vec::new();
    if flows > 0 {
        let youngest = youngest.map_or_else(String::new, |age| format!(", the youngest {} s old", age.as_secs()));
        parts.push(format!("{} left{youngest}", counted(flows, "flow")));
    }
    if connections > 0 {
        parts.push(format!("{} not accepted yet", counted(connections as usize, "connection")));
    }
    parts.join("; ")
}
