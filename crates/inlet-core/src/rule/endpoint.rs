//! A protocol with a local address, as `--listen` takes it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::zone::{split_zone, with_zone};
use super::{InterfaceName, Protocol, ProtocolError, Remedy};

/// A protocol and a local address: `tcp:127.0.0.1:8080`, `udp:[::1]:53`. A socket that is bound to an interface has it
/// behind the address: `udp:[fe80::1%eth0]:53`, `tcp:0.0.0.0%eth0:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    protocol: Protocol,
    addr: SocketAddr,
    device: Option<InterfaceName>,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The protocol is unknown.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The rest is not an address with a port.
    #[error("{0:?} is not a protocol, an address and a port")]
    Syntax(String),
}

impl Remedy for EndpointError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Protocol(error) => error.remedy(),
            Self::Syntax(_) => Some("write tcp:127.0.0.1:8080 or udp:[::1]:53".into()),
        }
    }
}

impl Endpoint {
    /// Makes one of a protocol and an address, for sockets that are bound to no interface or to any.
    pub fn new(protocol: Protocol, mut addr: SocketAddr) -> Self {
        if let SocketAddr::V6(addr) = &mut addr {
            // The number of an interface means nothing elsewhere; its name says it.
            addr.set_scope_id(0);
        }
        Self { protocol, addr, device: None }
    }

    /// The same for sockets that are bound to this interface.
    #[must_use]
    pub fn on(self, device: Option<InterfaceName>) -> Self {
        Self { device, ..self }
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The local address and port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The interface that its sockets are bound to.
    pub fn device(&self) -> Option<InterfaceName> {
        self.device
    }

    /// Whether it means a socket there. One without an interface means those of any.
    pub fn means(&self, other: &Self) -> bool {
        let on = self.device.is_none() || self.device == other.device;
        on && (self.protocol, self.addr) == (other.protocol, other.addr)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let syntax = || EndpointError::Syntax(text.to_owned());
        let (protocol, rest) = text.split_once(':').ok_or_else(syntax)?;
        let protocol = protocol.parse()?;
        let (addr, device) = split_zone(rest).ok_or_else(syntax)?;
        Ok(Self::new(protocol, addr.parse().map_err(|_| syntax())?).on(device))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.protocol, with_zone(self.addr, self.device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in [
            "tcp:127.0.0.1:8080",
            "udp:[::1]:53",
            "tcp:0.0.0.0:80",
            "udp:[fe80::1%eth0]:53",
            "tcp:0.0.0.0%eth0.7:80",
            "udp:[::%a%b]c]:53",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["tcp:127.0.0.1%:80", "tcp:[::1%]:80", "tcp:[::1]%lo:80", "tcp:::1%lo:80", "tcp:1.2.3.4%a b:80"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::Syntax(text.into())));
        }
        assert!(matches!("sctp:127.0.0.1:1".parse::<Endpoint>(), Err(EndpointError::Protocol(_))));
        assert!(matches!("tcp:127.0.0.1".parse::<Endpoint>(), Err(EndpointError::Syntax(_))));
        assert!(matches!("8080".parse::<Endpoint>(), Err(EndpointError::Syntax(_))));
    }

    #[test]
    fn one_without_an_interface_means_any() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        assert!(at("udp:[fe80::1]:53").means(&at("udp:[fe80::1%eth0]:53")));
        assert!(at("udp:[fe80::1%eth0]:53").means(&at("udp:[fe80::1%eth0]:53")));
        assert!(!at("udp:[fe80::1%eth1]:53").means(&at("udp:[fe80::1%eth0]:53")));
        assert!(!at("udp:[fe80::1%eth0]:53").means(&at("udp:[fe80::1]:53")));
    }
}
