//! Address prefixes in canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An IPv4 or IPv6 prefix, from /0 to a single host, without host bits. Never an IPv4-mapped IPv6 prefix: packets of
/// IPv4 clients reach the hook as IPv4, also when a dual-stack socket receives them (RFC 4291, section 2.5.5.2).
///
/// The order is: IPv4 before IPv6, then by address, then the shorter prefix first, so that a prefix comes right before
/// the prefixes inside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix(IpNet);

/// Why a text or a network is not a [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, nor an address with a length.
    #[error("{0:?} is not a prefix; write it like 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7")]
    Syntax(String),
    /// Bits are set after the prefix length.
    #[error("{given} has host bits set; the prefix is {canonical}")]
    HostBits {
        /// What was given.
        given: IpNet,
        /// The same with its host bits cleared.
        canonical: IpNet,
    },
    /// Inside ::ffff:0:0/96.
    #[error("{given} is an IPv4-mapped prefix, which no packet carries; write {canonical}")]
    Mapped {
        /// What was given.
        given: IpNet,
        /// The IPv4 prefix meant.
        canonical: IpNet,
    },
}

impl Prefix {
    /// The prefix, when it is canonical.
    ///
    /// # Errors
    /// [`PrefixError::HostBits`] and [`PrefixError::Mapped`], each naming the canonical form.
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

    /// The prefix of `len` bits that holds an address, whose host bits are cleared; `None` for a length that the family
    /// does not have, and for an IPv4-mapped prefix.
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

    /// Whether this is an IPv6 prefix.
    pub fn is_v6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }

    /// Whether the address is inside. An address of the other family never is.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }

    /// Whether `other` is this prefix or inside it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether all of its addresses are multicast, or the one broadcast address of IPv4: rules never see such packets.
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

    /// The first and the last address as numbers. IPv4 addresses take the upper end, so that both families end alike.
    pub(crate) fn ends(&self) -> (u128, u128) {
        match self.is_v6() {
            false => {
                let (first, last) = self.bounds4();
                (u128::from(first) << 96, u128::from(last) << 96 | u128::MAX >> 32)
            }
            true => self.bounds6(),
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

    /// All addresses of the same family.
    pub(crate) fn everywhere(&self) -> Self {
        if self.is_v6() { Self::v6(0, 0) } else { Self::v4(0, 0) }
    }
}

/// Reads a prefix length: digits alone.
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
        // Texts are short, and files may have a million of them: a plain loop is quicker here than `split_once`.
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
        (self.is_v6(), self.addr(), self.len()).cmp(&(other.is_v6(), other.addr(), other.len()))
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
        text.parse::<Prefix>().unwrap_err().to_string()
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
