//! Values of arguments that are more than a type of the core: filters, and addresses with ports.

use std::net::SocketAddr;
use std::str::FromStr;

use inlet::rules::{Prefix, PrefixError, Protocol};

/// An address with a port, as a packet carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddrPort(pub(crate) SocketAddr);

/// `any`, or a value: what a list is narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter<T>(pub(crate) Option<T>);

/// `tcp`, `udp` or `any`.
pub(crate) type ProtocolFilter = Filter<Protocol>;

/// A prefix or `any`.
pub(crate) type PrefixFilter = Filter<Prefix>;

impl FromStr for AddrPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addr: SocketAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is not an address and a port; write 192.0.2.7:80 or [2001:db8::7]:80"))?;
        match SocketAddr::new(addr.ip().to_canonical(), addr.port()) {
            canonical if canonical.is_ipv4() != addr.is_ipv4() => {
                Err(format!("{addr} is an IPv4-mapped address, which no packet carries; write {canonical}"))
            }
            _ => Ok(Self(addr)),
        }
    }
}

impl FromStr for ProtocolFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("any", _) => Ok(Self(None)),
            (_, Ok(protocol)) => Ok(Self(Some(protocol))),
            _ => Err(format!("unknown protocol {text:?}; write tcp, udp or any")),
        }
    }
}

impl FromStr for PrefixFilter {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text {
            "any" => Ok(Self(None)),
            text => Ok(Self(Some(text.parse()?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_ports() {
        assert!("192.0.2.7:80".parse::<AddrPort>().is_ok() && "[2001:db8::7]:80".parse::<AddrPort>().is_ok());
        assert!("192.0.2.7".parse::<AddrPort>().unwrap_err().contains("is not an address and a port"));
        assert!("[::ffff:192.0.2.7]:80".parse::<AddrPort>().unwrap_err().ends_with("write 192.0.2.7:80"));
    }

    #[test]
    fn filters() {
        assert_eq!("any".parse::<ProtocolFilter>(), Ok(Filter(None)));
        assert_eq!("udp".parse::<ProtocolFilter>(), Ok(Filter(Some(Protocol::Udp))));
        assert!("sctp".parse::<ProtocolFilter>().unwrap_err().contains("tcp, udp or any"));
        assert_eq!("any".parse::<PrefixFilter>(), Ok(Filter(None)));
        assert!("192.0.2.7/24".parse::<PrefixFilter>().is_err());
    }
}
