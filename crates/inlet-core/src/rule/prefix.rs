//! Address prefixes in canonical form.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Family, Remedy};

/// An IPv4 or IPv6 prefix, from /0 to a single host, without host bits.
///
/// It is never an IPv4-mapped IPv6 prefix: packets of IPv4 clients reach the hook as IPv4, even when a dual-stack
/// socket receives them (RFC 4291, section 2.5.5.2).
///
/// Prefixes sort by family (IPv4 first), then address, then length (the shorter first). So a prefix comes right before
/// the prefixes inside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix(IpNet);

/// Why a text or a network is not a [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, nor an address with a length.
    #[error("{0:?} is not a prefix")]
    Syntax(String),
    /// Bits are set after the prefix length.
    #[error("{given} has host bits set")]
    HostBits {
        /// What was given.
        given: IpNet,
        /// The same network with its host bits cleared.
        canonical: IpNet,
    },
    /// The prefix lies inside ::ffff:0:0/96.
    #[error("{given} is an IPv4-mapped prefix, which no packet carries")]
    Mapped {
        /// What was given.
        given: IpNet,
        /// The IPv4 prefix that it stands for.
        canonical: IpNet,
    },
}

impl Prefix {
    /// Makes a prefix of a network that is in canonical form.
    ///
    /// # Errors
    /// [`PrefixError::HostBits`] and [`PrefixError::Mapped`], each with the canonical form.
    pub fn new(net: IpNet) -> Result<Self, PrefixError> {
        if net != net.trunc() {
            return Err(PrefixError::HostBits { given: net, canonical: net.trunc() });
        }
        if let Some(canonical) = unmapped(&net) {
            return Err(PrefixError::Mapped { given: net, canonical });
        }
        Ok(Self(net))
    }

    /// The IPv4 prefix of `len` bits that holds `addr` (host byte order). Host bits are cleared.
    pub(crate) fn v4(addr: u32, len: u8) -> Self {
        let net = Ipv4Net::new_assert(Ipv4Addr::from_bits(addr), len);
        Self(IpNet::V4(net.trunc()))
    }

    /// The IPv6 prefix of `len` bits that holds `addr` (host byte order). Host bits are cleared.
    pub(crate) fn v6(addr: u128, len: u8) -> Self {
        let net = Ipv6Net::new_assert(Ipv6Addr::from_bits(addr), len);
        Self(IpNet::V6(net.trunc()))
    }

    /// The prefix of `len` bits that holds `addr`. Host bits are cleared. `None` when the family has no such length,
    /// and for an IPv4-mapped prefix.
    pub fn holding(addr: IpAddr, len: u8) -> Option<Self> {
        Self::new(IpNet::new(addr, len).ok()?.trunc()).ok()
    }

    /// The prefix as a network.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// The first address.
    pub fn addr(&self) -> IpAddr {
        self.0.addr()
    }

    /// The length in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// Whether this is an IPv6 prefix.
    pub fn is_v6(&self) -> bool {
        self.family() == Family::V6
    }

    /// Whether the address is inside. An address of the other family never is.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }

    /// Whether `other` is this prefix or inside it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether rules never see packets to these addresses: all are multicast, or the one is IPv4 broadcast.
    pub fn is_multicast(&self) -> bool {
        match self.0 {
            IpNet::V4(net) => net.addr().is_multicast() && net.prefix_len() >= 4 || net.addr().is_broadcast(),
            IpNet::V6(net) => net.addr().is_multicast() && net.prefix_len() >= 8,
        }
    }

    /// The network of a prefix that is known to be IPv4.
    pub(crate) fn net4(&self) -> Ipv4Net {
        let IpNet::V4(net) = self.0 else { unreachable!("an IPv6 prefix among IPv4 ones") };
        net
    }

    /// The network of a prefix that is known to be IPv6.
    pub(crate) fn net6(&self) -> Ipv6Net {
        let IpNet::V6(net) = self.0 else { unreachable!("an IPv4 prefix among IPv6 ones") };
        net
    }

    /// The first and the last address of an IPv4 prefix, in host byte order.
    pub(crate) fn bounds4(&self) -> (u32, u32) {
        let net = self.net4();
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    /// The first and the last address of an IPv6 prefix, in host byte order.
    pub(crate) fn bounds6(&self) -> (u128, u128) {
        let net = self.net6();
        (net.network().to_bits(), net.broadcast().to_bits())
    }

    /// The first and the last address as numbers in host byte order. IPv4 addresses take the upper 32 bits, so that the
    /// last address of both families is the highest number.
    pub(crate) fn ends(&self) -> (u128, u128) {
        match self.family() {
            Family::V4 => {
                let (first, last) = self.bounds4();
                (u128::from(first) << 96, u128::from(last) << 96 | u128::MAX >> 32)
            }
            Family::V6 => self.bounds6(),
        }
    }

    /// The two halves; `None` for a single host.
    pub(crate) fn halves(&self) -> Option<[Self; 2]> {
        let len = self.len() + 1;
        match self.addr() {
            IpAddr::V4(addr) if len <= 32 => {
                let bits = addr.to_bits();
                Some([Self::v4(bits, len), Self::v4(bits | 1 << (32 - len), len)])
            }
            IpAddr::V6(addr) if len <= 128 => {
                let bits = addr.to_bits();
                Some([Self::v6(bits, len), Self::v6(bits | 1 << (128 - len), len)])
            }
            _ => None,
        }
    }
}

impl Remedy for PrefixError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Syntax(_) => "write it like 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7".into(),
            Self::HostBits { canonical, .. } => format!("the prefix is {canonical}").into(),
            Self::Mapped { canonical, .. } => format!("write {canonical}").into(),
        })
    }
}

/// Reads a prefix length, which has digits only.
fn length(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn unmapped(net: &IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = net else { return None };
    let v4 = v6.addr().to_ipv4_mapped()?;
    let len = v6.prefix_len().checked_sub(96)?;
    Some(IpNet::V4(Ipv4Net::new_assert(v4, len)))
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `ADDR/LEN`, or `ADDR` for a single host.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        // A file may have a million of these short texts, and a plain loop is faster here than `split_once`.
        let net = match text.bytes().position(|byte| byte == b'/') {
            Some(at) => {
                let (addr, len) = (&text[..at], &text[at + 1..]);
                addr.parse().ok().zip(length(len)).and_then(|(addr, len)| IpNet::new(addr, len).ok())
            }
            None => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        Self::new(net.ok_or_else(|| PrefixError::Syntax(text.to_owned()))?)
    }
}

impl From<IpAddr> for Prefix {
    /// The prefix of this one host. An IPv4-mapped address becomes the IPv4 one.
    fn from(addr: IpAddr) -> Self {
        Self(IpNet::from(addr.to_canonical()))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.family(), self.addr(), self.len()).cmp(&(other.family(), other.addr(), other.len()))
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = text.parse::<Prefix>().unwrap_err();
        format!("{error}; {}", error.remedy().unwrap())
    }

    #[test]
    fn canonical_forms_are_named() {
        assert_eq!(error("192.0.2.7/24"), "192.0.2.7/24 has host bits set; the prefix is 192.0.2.0/24");
        assert_eq!(error("2001:db8::1/64"), "2001:db8::1/64 has host bits set; the prefix is 2001:db8::/64");
        assert_eq!(
            error("::ffff:192.0.2.0/120"),
            "::ffff:192.0.2.0/120 is an IPv4-mapped prefix, which no packet carries; write 192.0.2.0/24"
        );
        assert!(error("::ffff:192.0.2.1").ends_with("write 192.0.2.1/32"));
        assert!(error("web").contains("is not a prefix"));
        assert!(error("192.0.2.0/33").contains("is not a prefix"));
    }

    #[test]
    fn a_bare_address_is_a_host() {
        assert_eq!("192.0.2.7".parse::<Prefix>().unwrap().to_string(), "192.0.2.7/32");
        assert_eq!("::".parse::<Prefix>().unwrap().to_string(), "::/128");
        assert_eq!("::/0".parse::<Prefix>().unwrap().len(), 0);
    }

    #[test]
    fn a_prefix_sorts_right_before_what_is_inside_it() {
        let mut all: Vec<Prefix> =
            ["::/0", "10.0.1.0/24", "10.0.0.0/24", "10.0.0.0/8", "0.0.0.0/0"].map(|t| t.parse().unwrap()).to_vec();
        all.sort();
        let texts: Vec<String> = all.iter().map(Prefix::to_string).collect();
        assert_eq!(texts, ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "::/0"]);
    }
}
