//! What a socket is bound to, and how the kernel's ordinary lookup ranks it for a packet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::rule::{Packet, Prefix, Protocol};

/// What a TCP listener or an unconnected UDP socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bound {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port; the unspecified address is a wildcard.
    pub addr: SocketAddr,
    /// Whether an IPv6 socket takes IPv6 packets only.
    pub v6only: bool,
    /// The index of the interface that it is bound to, 0 for none.
    pub device: u32,
}

/// How well a socket fits a packet; the highest rank receives it. Sockets of one rank are of one SO_REUSEPORT group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    exact: bool,
    device: bool,
    ipv4: bool,
}

impl Bound {
    /// The local prefixes of the packets that it can receive: one host, or all addresses of a family or of both.
    pub fn locals(&self) -> Vec<Prefix> {
        let all = (Prefix::v4(0, 0), Prefix::v6(0, 0));
        match self.addr.ip().to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![all.0],
            IpAddr::V6(addr) if addr.is_unspecified() && self.v6only => vec![all.1],
            IpAddr::V6(addr) if addr.is_unspecified() => vec![all.0, all.1],
            addr => vec![Prefix::from(addr)],
        }
    }

    /// Whether it is bound to every address.
    pub fn is_wildcard(&self) -> bool {
        self.addr.ip().to_canonical().is_unspecified()
    }

    /// How well it fits the packets that it can receive.
    pub fn precedence(&self) -> Rank {
        Rank { exact: !self.is_wildcard(), device: self.device != 0, ipv4: self.addr.is_ipv4() }
    }

    /// How well it fits the packet (`compute_score` of the kernel's net/ipv4 and net/ipv6); `None` when not at all.
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
}
