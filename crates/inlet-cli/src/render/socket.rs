//! A live socket, in words and as JSON.

use anstyle::Style;
use inlet::{Owner, SocketState};
use serde::Serialize;

use super::{Screen, printable};
use crate::failure::Failure;

/// Its address, its number, and who has it open.
pub(crate) fn words(socket: &SocketState) -> [String; 3] {
    let mut local = socket.local.map_or_else(|| "unknown address".to_owned(), |local| local.to_string());
    if let Some(device) = &socket.device {
        local.push_str(&format!(" on {}", printable(&device.name)));
    }
    if let Some(port) = socket.own_port {
        local.push_str(&format!(" (own port {port})"));
    }
    match socket.peer {
        Some(peer) => local.push_str(&format!(" (connected to {peer}, receives from there only)")),
        None if !socket.receiving => local.push_str(" (not receiving)"),
        None => {}
    }
    [local, format!("cookie {}", socket.cookie), owners(&socket.owners)]
}

/// Why some sockets receive nothing, and what to do.
pub(super) fn silences(screen: &mut Screen<'_>, sockets: &[SocketState]) -> Result<(), Failure> {
    let Some((why, fix)) = sockets.iter().find_map(SocketState::silence) else { return Ok(()) };
    screen.line(screen.palette.changed, &format!("not receiving: {why}"))?;
    screen.line(Style::new(), &format!("fix: {fix}"))
}

/// The same in one line.
pub(crate) fn line(socket: &SocketState) -> String {
    words(socket).join("  ")
}

fn owners(owners: &[Owner]) -> String {
    let one = |owner: &Owner| {
        let unit = owner.unit.as_ref().map_or_else(String::new, |unit| format!(" of {}", printable(unit)));
        format!("pid {} ({}){unit}", owner.pid, printable(&owner.command))
    };
    match owners {
        [] => "owner not visible".to_owned(),
        some => some.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

#[derive(Serialize)]
pub(crate) struct Socket {
    protocol: Option<&'static str>,
    local: Option<String>,
    /// The port that it is in truth bound to, where its program has own binds.
    own_port: Option<u16>,
    cookie: u64,
    receiving: bool,
    /// Whom a UDP socket is connected to.
    peer: Option<String>,
    families: Vec<&'static str>,
    /// The interface that it is bound to.
    iface: Option<String>,
    owners: Vec<Process>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    command: String,
    unit: Option<String>,
}

impl From<&SocketState> for Socket {
    fn from(socket: &SocketState) -> Self {
        let families = [(socket.v4, "ipv4"), (socket.v6, "ipv6")];
        Self {
            protocol: socket.local.map(|local| local.protocol().as_str()),
            local: socket.local.map(|local| local.addr().to_string()),
            own_port: socket.own_port,
            cookie: socket.cookie,
            receiving: socket.receiving,
            peer: socket.peer.map(|peer| peer.to_string()),
            families: families.into_iter().filter(|(serves, _)| *serves).map(|(_, name)| name).collect(),
            iface: socket.device.as_ref().map(|device| device.name.clone()),
            owners: socket.owners.iter().map(Process::from).collect(),
        }
    }
}

impl From<&Owner> for Process {
    fn from(owner: &Owner) -> Self {
        Self { pid: owner.pid, command: owner.command.clone(), unit: owner.unit.clone() }
    }
}
