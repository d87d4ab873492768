//! A flow over UDP that stays on its socket, and the key by which the maps of flows have it.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::bpf::steer::types;

/// A flow that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    /// The remote end and what it asks.
    pub(crate) ends: FlowEnds,
    /// The kernel's number of its socket.
    pub(crate) cookie: u64,
    /// The service that it is of.
    pub(crate) service: u16,
    /// When its first datagram came, by the clock that never jumps.
    pub(crate) since: Duration,
    /// When its last one came.
    pub(crate) seen: Duration,
}

/// The ends of a flow, as the maps of flows have them for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowEnds {
    pub(crate) remote: SocketAddr,
    pub(crate) own: SocketAddr,
}

impl FlowEnds {
    const BYTES: usize = size_of::<types::flow>();

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(offset_of!(types::flow, remote), &mapped(self.remote.ip()));
        put(offset_of!(types::flow, own), &mapped(self.own.ip()));
        put(offset_of!(types::flow, remote_port), &self.remote.port().to_be_bytes());
        put(offset_of!(types::flow, own_port), &self.own.port().to_ne_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let addr = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
        };
        let port = |at: usize| -> Option<[u8; 2]> { bytes.get(at..at + 2)?.try_into().ok() };
        let remote_port = u16::from_be_bytes(port(offset_of!(types::flow, remote_port))?);
        let own_port = u16::from_ne_bytes(port(offset_of!(types::flow, own_port))?);
        Some(Self {
            remote: SocketAddr::new(addr(offset_of!(types::flow, remote))?, remote_port),
            own: SocketAddr::new(addr(offset_of!(types::flow, own))?, own_port),
        })
    }
}

/// An address of IPv4 as one of IPv6.
fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

impl Stay {
    pub(super) fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_ne_bytes(value.get(at..at + 8)?.try_into().ok()?));
        let service = offset_of!(types::stay, service);
        let service = u32::from_ne_bytes(value.get(service..service + 4)?.try_into().ok()?);
        Some(Self {
            ends: FlowEnds::of(key)?,
            cookie: long(offset_of!(types::stay, cookie))?,
            service: service as u16,
            since: Duration::from_nanos(long(offset_of!(types::stay, since))?),
            seen: Duration::from_nanos(long(offset_of!(types::stay, seen))?),
        })
    }
}
