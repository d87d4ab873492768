//! A live socket, in words and as JSON.

use inlet::{Owner, SocketState};
use serde::Serialize;

use super::printable;

/// Its address, its number, and who has it open.
pub(crate) fn words(socket: &SocketState) -> [String; 3] {
    let mut local = socket.local.map_or_else(|| "unknown address".to_owned(), |local| local.to_string());
    if let Some(device) = &socket.device {
        local.push_str(&format!(" on {}", printable(&device.name)));
    }
    if let Some(port) = socket.own_port {
        local.push_str(&format!(" (own port {port})"));
    }
    let local = if socket.receiving { local } else { format!("{local} (not receiving)") };
    [local, format!("cookie {}", socket.cookie), owners(&socket.owners)]
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
