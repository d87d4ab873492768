//! Values of arguments that are more than a type of the core: filters, and addresses with ports.

use std::net::SocketAddr;
use std::str::FromStr;

use inlet::rules::{Mark, Prefix, PrefixError, Protocol, Remedy};

/// An address with a port, as a packet carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddrPort(pub(crate) SocketAddr);

/// The whole mark of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkValue(pub(crate) u32);

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

impl FromStr for MarkValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Mark>() {
            Ok(mark) if mark.mask() == u32::MAX => Ok(Self(mark.value())),
            Ok(mark) => Err(format!("a packet has a whole mark, without a mask; write {:#x}", mark.value())),
            Err(error) => Err(format!("{error}; {}", error.remedy().unwrap_or_default())),
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
    fn the_mark_of_a_packet_has_no_mask() {
        assert_eq!(["0x10", "16"].map(str::parse), [Ok(MarkValue(16)), Ok(MarkValue(16))]);
        assert!("0x1/0xff".parse::<MarkValue>().unwrap_err().ends_with("without a mask; write 0x1"));
        assert!("x".parse::<MarkValue>().unwrap_err().starts_with("\"x\" is not a mark; write"));
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
