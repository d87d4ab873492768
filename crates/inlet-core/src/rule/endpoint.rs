//! A protocol with a local address, as `--listen` takes it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::{Protocol, ProtocolError, Remedy};

/// A protocol and a local address: `tcp:127.0.0.1:8080`, `udp:[::1]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    protocol: Protocol,
    addr: SocketAddr,
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
    /// Makes one of a protocol and an address.
    pub fn new(protocol: Protocol, addr: SocketAddr) -> Self {
        Self { protocol, addr }
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The local address and port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let syntax = || EndpointError::Syntax(text.to_owned());
        let (protocol, addr) = text.split_once(':').ok_or_else(syntax)?;
        Ok(Self { protocol: protocol.parse()?, addr: addr.parse().map_err(|_| syntax())? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.protocol, self.addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in ["tcp:127.0.0.1:8080", "udp:[::1]:53", "tcp:0.0.0.0:80"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert!(matches!("sctp:127.0.0.1:1".parse::<Endpoint>(), Err(EndpointError::Protocol(_))));
        assert!(matches!("tcp:127.0.0.1".parse::<Endpoint>(), Err(EndpointError::Syntax(_))));
        assert!(matches!("8080".parse::<Endpoint>(), Err(EndpointError::Syntax(_))));
    }
}
