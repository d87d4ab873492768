//! What a socket is bound to, and how the kernel's ordinary lookup ranks it for a packet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::rule::{Family, Packet, Prefix, Protocol};

/// What a TCP listener or an unconnected UDP socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bound {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port. The unspecified address stands for all addresses.
    pub addr: SocketAddr,
    /// Whether an IPv6 socket takes IPv6 packets only.
    pub v6only: bool,
    /// The kernel's index of the interface that it is bound to, 0 for none.
    pub device: u32,
}

/// How well a socket fits a packet. The socket with the highest rank receives it, unless a group goes before it
/// ([`Rank::may_precede`]). Sockets of equal rank form one SO_REUSEPORT group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    exact: bool,
    device: bool,
    ipv4: bool,
}

impl Rank {
    /// Whether a socket of this rank may receive though one of the rank `better` fits too. The kernel takes the first
    /// SO_REUSEPORT group on its list that fits better than what it passed (`inet_lhash2_lookup`, `udp4_lib_lookup2`).
    /// Nobody can read the order of the list: what was bound later comes first, and IPv6 sockets of groups come last.
    #[must_use]
    pub fn may_precede(&self, better: &Rank) -> bool {
        self.exact == better.exact && (self.ipv4 || !better.ipv4)
    }
}

impl Bound {
    /// The local prefixes of the packets that it can receive: one host, or all addresses of one or both families.
    pub fn locals(&self) -> Vec<Prefix> {
        match self.addr.ip().to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Family::V4.everywhere()],
            IpAddr::V6(addr) if addr.is_unspecified() && self.v6only => vec![Family::V6.everywhere()],
            IpAddr::V6(addr) if addr.is_unspecified() => Family::ALL.map(Family::everywhere).to_vec(),
            addr => vec![Prefix::from(addr)],
        }
    }

    /// Whether it is bound to every address.
    pub fn is_wildcard(&self) -> bool {
        self.addr.ip().to_canonical().is_unspecified()
    }

    /// Its rank for the packets that it can receive.
    pub fn precedence(&self) -> Rank {
        Rank { exact: !self.is_wildcard(), device: self.device != 0, ipv4: self.addr.is_ipv4() }
    }

    /// Its rank for the packet (`compute_score` in the kernel's net/ipv4 and net/ipv6). `None`: it cannot receive the
    /// packet.
    pub fn rank(&self, packet: &Packet) -> Option<Rank> {
        let fits = self.protocol == packet.protocol
            && self.addr.port() == packet.local.port()
            && (self.device == 0 || self.device == packet.ifindex)
            && self.locals().iter().any(|local| local.contains(packet.local.ip()));
        fits.then(|| self.precedence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(addr: &str, v6only: bool) -> Bound {
        Bound { protocol: Protocol::Tcp, addr: addr.parse().unwrap(), v6only, device: 0 }
    }

    fn packet(to: &str) -> Packet {
        let local: SocketAddr = to.parse().unwrap();
        let from = if local.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        Packet::new(Protocol::Tcp, local, from.parse().unwrap())
    }

    #[test]
    fn an_exact_address_is_before_a_wildcard_and_ipv4_before_dual_stack() {
        let rank = |addr: &str, to: &str| bound(addr, false).rank(&packet(to));
        let to = "192.0.2.7:80";
        assert!(rank("192.0.2.7:80", to) > rank("0.0.0.0:80", to));
        assert!(rank("0.0.0.0:80", to) > rank("[::]:80", to) && rank("[::]:80", to).is_some());
        assert_eq!(rank("[::ffff:192.0.2.7]:80", to).map(|rank| rank.exact), Some(true));
        assert_eq!(rank("0.0.0.0:81", to), None);
        assert_eq!(bound("[::]:80", true).rank(&packet(to)), None);
        assert_eq!(rank("0.0.0.0:80", "[2001:db8::1]:80"), None);
    }

    #[test]
    fn a_device_takes_only_what_came_in_on_it() {
        let on = Bound { device: 3, ..bound("0.0.0.0:80", false) };
        let mut asked = packet("192.0.2.7:80");
        assert_eq!(on.rank(&asked), None);
        asked.ifindex = 3;
        assert!(on.rank(&asked) > bound("0.0.0.0:80", false).rank(&asked));
    }

    #[test]
    fn groups_of_one_address_may_come_first() {
        let rank = |addr: &str, device| Bound { device, ..bound(addr, false) }.precedence();
        assert!(rank("0.0.0.0:80", 0).may_precede(&rank("0.0.0.0:80", 3)));
        assert!(rank("0.0.0.0:80", 0).may_precede(&rank("[::]:80", 3)));
        assert!(!rank("[::]:80", 0).may_precede(&rank("0.0.0.0:80", 0)));
        assert!(!rank("0.0.0.0:80", 0).may_precede(&rank("192.0.2.7:80", 0)));
    }
}
