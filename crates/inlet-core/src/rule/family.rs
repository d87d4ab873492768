//! The two families of addresses.

use std::fmt;
use std::net::IpAddr;

use super::Prefix;

/// The family of an address, a prefix or a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4. Packets of an IPv4 client have this family even when a dual-stack socket receives them.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The prefix of all its addresses: `0.0.0.0/0` or `::/0`.
    pub fn everywhere(self) -> Prefix {
        match self {
            Self::V4 => Prefix::v4(0, 0),
            Self::V6 => Prefix::v6(0, 0),
        }
    }

    /// The length of an address in bits: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl From<IpAddr> for Family {
    /// The family of this address as it is: an IPv4-mapped address is IPv6.
    fn from(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    /// `IPv4` or `IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
