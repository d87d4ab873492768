//! The address that a description gives for a socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::zone::{split_zone, with_zone};
use super::{DescriptionError, Endpoint, InterfaceName, Protocol};

/// A protocol, a local address and a port that a socket is bound to: `tcp:127.0.0.1:8080`, `udp:[::1]:53`, `tcp:*:80`.
/// With an interface only sockets are meant that are bound to it: `udp:[fe80::1%eth0]:53`, `tcp:*%eth0:80`.
///
/// `tcp:*:*` means all TCP listeners; it needs a unit or a control group beside it. `udp:*:*` means all UDP
/// sockets that a program with own binds has bound to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    protocol: Protocol,
    addr: ListenAddr,
    /// In host byte order; 0 means all ports.
    port: u16,
    device: Option<InterfaceName>,
}

/// The local address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenAddr {
    /// Exactly this address. `0.0.0.0` and `::` mean sockets that are bound to all addresses. Never an IPv4-mapped
    /// address: a socket bound to it is bound to the IPv4 address.
    Exact(IpAddr),
    /// Every address, written `*`.
    Any,
}

impl Listen {
    /// Makes one of a protocol, an address and a port. An IPv4-mapped address becomes the IPv4 one.
    ///
    /// # Errors
    /// [`DescriptionError::Zero`].
    pub fn new(protocol: Protocol, addr: ListenAddr, port: u16) -> Result<Self, DescriptionError> {
        let addr = match addr {
            ListenAddr::Exact(addr) => ListenAddr::Exact(addr.to_canonical()),
            ListenAddr::Any => ListenAddr::Any,
        };
        let listen = Self { protocol, addr, port, device: None };
        if port == 0 { Err(DescriptionError::Zero(listen.to_string())) } else { Ok(listen) }
    }

    /// The same for sockets that are bound to this interface. `None`: to any, or to none.
    #[must_use]
    pub fn on(self, device: Option<InterfaceName>) -> Self {
        Self { device, ..self }
    }

    /// The protocol.
    pub fn protocol(self) -> Protocol {
        self.protocol
    }

    /// The interface that its sockets are bound to, when only those are meant.
    pub fn device(self) -> Option<InterfaceName> {
        self.device
    }

    /// The address.
    pub fn addr(self) -> ListenAddr {
        self.addr
    }

    /// All TCP listeners, whatever their address and port.
    pub const ALL_TCP: Self = Self { protocol: Protocol::Tcp, addr: ListenAddr::Any, port: 0, device: None };

    /// All UDP sockets, whatever their address and port.
    pub const ALL_UDP: Self = Self { protocol: Protocol::Udp, ..Self::ALL_TCP };

    /// The port, 1 to 65535; `None` for all.
    pub fn port(self) -> Option<u16> {
        Some(self.port).filter(|port| *port != 0)
    }

    /// Whether it means a socket that is bound there.
    pub fn matches(self, socket: &Endpoint) -> bool {
        let local = socket.addr();
        let addr = match self.addr {
            ListenAddr::Exact(addr) => addr == local.ip().to_canonical(),
            ListenAddr::Any => true,
        };
        let on = self.device.is_none() || self.device == socket.device();
        addr && on && self.protocol == socket.protocol() && (self.port == 0 || self.port == local.port())
    }

    /// What both mean; `None` when no socket can be both.
    pub(super) fn meet(self, other: Self) -> Option<Self> {
        let same_port = self.port == other.port || self.port == 0 || other.port == 0;
        let same_device = self.device == other.device || self.device.is_none() || other.device.is_none();
        match (self.addr, other.addr) {
            _ if self.protocol != other.protocol || !same_port || !same_device => None,
            _ if self.port == 0 => Some(other),
            _ if other.port == 0 => Some(self),
            (ListenAddr::Any, _) => Some(other),
            (_, ListenAddr::Any) => Some(self),
            (a, b) => (a == b).then_some(self),
        }
    }
}

impl FromStr for Listen {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let syntax = || DescriptionError::Listen(text.to_owned());
        match text {
            "tcp:*:*" => return Ok(Self::ALL_TCP),
            "udp:*:*" => return Ok(Self::ALL_UDP),
            _ => {}
        }
        let (protocol, rest) = text.split_once(':').ok_or_else(syntax)?;
        let protocol = protocol.parse()?;
        let (rest, device) = split_zone(rest).ok_or_else(syntax)?;
        let (addr, port) = match rest.strip_prefix("*:") {
            Some(port) => (ListenAddr::Any, port.parse().map_err(|_| syntax())?),
            None => {
                let addr: SocketAddr = rest.parse().map_err(|_| syntax())?;
                (ListenAddr::Exact(addr.ip()), addr.port())
            }
        };
        Ok(Self::new(protocol, addr, port)?.on(device))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.addr, self.device) {
            (ListenAddr::Exact(addr), device) => with_zone(SocketAddr::new(addr, self.port), device),
            (ListenAddr::Any, None) if self.port == 0 => "*:*".to_owned(),
            (ListenAddr::Any, None) => format!("*:{}", self.port),
            (ListenAddr::Any, Some(device)) => format!("*%{device}:{}", self.port),
        };
        f.pad(&format!("{}:{text}", self.protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn forms() {
        for text in
            ["tcp:127.0.0.1:8080", "udp:[::1]:53", "tcp:*:80", "tcp:0.0.0.0:80", "udp:[::]:53", "tcp:*:*", "udp:*:*"]
        {
            assert_eq!(listen(text).to_string(), text);
        }
        for text in ["tcp:127.0.0.1%lo:8080", "udp:[fe80::1%eth0]:53", "tcp:*%eth0.7:80", "udp:[::%a]b]:53"] {
            assert_eq!(listen(text).to_string(), text);
        }
        assert_eq!(listen("tcp:[::ffff:192.0.2.1]:80").to_string(), "tcp:192.0.2.1:80");
        for text in
            ["80", "tcp:80", "tcp:*", "tcp:*:", "tcp:*:http", "tcp:1.2.3:80", "tcp:*:65536", "udp:*%lo:*", "tcp:*%:80"]
        {
            assert_eq!(text.parse::<Listen>(), Err(DescriptionError::Listen(text.into())));
        }
        assert!(matches!("sctp:*:80".parse::<Listen>(), Err(DescriptionError::Protocol(_))));
        assert!(matches!("tcp:*:0".parse::<Listen>(), Err(DescriptionError::Zero(_))));
    }

    #[test]
    fn a_wildcard_socket_is_not_one_of_an_address() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        assert!(listen("tcp:127.0.0.1:80").matches(&at("tcp:127.0.0.1:80")));
        assert!(listen("tcp:127.0.0.1:80").matches(&at("tcp:[::ffff:127.0.0.1]:80")));
        assert!(!listen("tcp:127.0.0.1:80").matches(&at("tcp:0.0.0.0:80")));
        assert!(!listen("tcp:0.0.0.0:80").matches(&at("tcp:[::]:80")));
        assert!(listen("tcp:*:80").matches(&at("tcp:[::]:80")));
        assert!(!listen("tcp:*:80").matches(&at("udp:[::]:80")));
    }

    #[test]
    fn an_interface_tells_sockets_of_one_address_apart() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        assert!(listen("udp:[fe80::1%eth0]:53").matches(&at("udp:[fe80::1%eth0]:53")));
        assert!(!listen("udp:[fe80::1%eth0]:53").matches(&at("udp:[fe80::1%eth1]:53")));
        assert!(!listen("udp:[fe80::1%eth0]:53").matches(&at("udp:[fe80::1]:53")));
        assert!(listen("udp:[fe80::1]:53").matches(&at("udp:[fe80::1%eth1]:53")));
        let meet = |a: &str, b: &str| listen(a).meet(listen(b)).is_some();
        assert!(!meet("tcp:*%a:80", "tcp:*%b:80") && meet("tcp:*%a:80", "tcp:*:80") && meet("tcp:*%a:80", "tcp:*:*"));
    }
}
