//! A live socket, with what the kernel and /proc know of it.

use std::net::SocketAddr;

use inlet_core::Endpoint;

use super::owner::Owner;

/// The interface that a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's index of it.
    pub index: u32,
    /// Its name, or `interface N` when it is gone.
    pub name: String,
    /// The VRF that it belongs to. Packets of a VRF come in on the VRF, so a socket that is bound to a member of it
    /// receives nothing by rules.
    pub vrf: Option<String>,
}

/// A live socket of a service.
#[derive(Clone, Debug)]
pub struct SocketState {
    /// The kernel's number of the socket, never used again (`SO_COOKIE`).
    pub cookie: u64,
    /// Its protocol and local address; `None` when the kernel does not list it to us.
    pub local: Option<Endpoint>,
    /// The port that it is in truth bound to, where its program has own binds: `local` has the one that was asked for.
    pub own_port: Option<u16>,
    /// Whether it can receive: a TCP socket that listens, a UDP socket that is not connected.
    pub receiving: bool,
    /// Whom it is connected to, of a UDP socket that does not receive: it gets the datagrams of its peer alone, and rules
    /// give it none.
    pub peer: Option<SocketAddr>,
    /// Whether it serves IPv4.
    pub v4: bool,
    /// Whether it serves IPv6.
    pub v6: bool,
    /// The interface that it is bound to (SO_BINDTODEVICE): by rules it receives only what comes in on that one.
    pub device: Option<Device>,
    /// The number of the user whose it is; `None` when the kernel does not list it to us.
    pub user: Option<u32>,
    /// The processes that have it open, as far as we may see them.
    pub owners: Vec<Owner>,
}

/// Whether a service had a socket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It was adopted before.
    Before,
    /// It is new.
    Now,
}

impl SocketState {
    /// Why it receives nothing, and what to do about that; `None` when it receives.
    pub fn silence(&self) -> Option<(&'static str, &'static str)> {
        match self.peer {
            _ if self.receiving => None,
            Some(_) => Some((
                "the kernel gives a connected UDP socket what its peer sends, and no rule gives it anything",
                "use a server that leaves its socket unconnected, or one that opens another for the next client (docs/udp.md, Limits)",
            )),
            None => Some((
                "it does not listen any more, and the kernel refuses to give it packets",
                "start its server again",
            )),
        }
    }

    /// Where it is in truth bound.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        let mut bound = self.local?.addr();
        bound.set_port(self.own_port.unwrap_or(bound.port()));
        Some(bound)
    }

    /// Whether rules can give it packets that come in on the interface of this index; 0 is one that is not known.
    pub fn receives_on(&self, ifindex: u32) -> bool {
        self.device.as_ref().is_none_or(|device| device.index == ifindex)
    }
}
