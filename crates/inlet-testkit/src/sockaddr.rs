//! Socket addresses and control messages as the bytes that recvmsg(2) and sendmsg(2) carry. Pure; no calls here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The longest address of the two families: `struct sockaddr_in6`.
pub(crate) const MAX: usize = 28;
const WORD: usize = size_of::<usize>();
/// `struct cmsghdr`: a length of a word, the level and the type.
const HEADER: usize = WORD + 8;

/// An address with a v4-mapped v6 address written as the v4 address it stands for.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) if six.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        _ => address,
    }
}

/// Writes `struct sockaddr_in` or `sockaddr_in6` and returns its length.
pub(crate) fn encode(address: SocketAddr, out: &mut [u8; MAX]) -> usize {
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(four) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&four.ip().octets());
            16
        }
        SocketAddr::V6(six) => {
            out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out[8..24].copy_from_slice(&six.ip().octets());
            out[24..28].copy_from_slice(&six.scope_id().to_ne_bytes());
            28
        }
    }
}

/// Reads `struct sockaddr_in` or `sockaddr_in6`; another family is `None`.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(array(bytes, 0)?));
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match family {
        libc::AF_INET => Some((Ipv4Addr::from(array::<4>(bytes, 4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(array(bytes, 24)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// Finds the original destination, address and port, among received control messages. IP_PKTINFO would give the address
/// only, and a steered datagram's port is not the bound one.
pub(crate) fn original_destination(mut control: &[u8]) -> Option<SocketAddr> {
    loop {
        let len = usize::from_ne_bytes(array(control, 0)?);
        let level = i32::from_ne_bytes(array(control, WORD)?);
        let kind = i32::from_ne_bytes(array(control, WORD + 4)?);
        match (level, kind) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
                return decode(control.get(HEADER..len)?);
            }
            _ => control = control.get(len.max(HEADER).next_multiple_of(WORD)..)?,
        }
    }
}

/// A control message that makes a datagram to `to` leave from `from`: IP_PKTINFO or IPV6_PKTINFO by `to`'s family.
pub(crate) fn pktinfo(to: SocketAddr, from: IpAddr) -> Vec<u8> {
    let (level, kind, data) = match (to, from) {
        (SocketAddr::V4(_), from) => {
            let IpAddr::V4(four) = from.to_canonical() else {
                return Vec::new();
            };
            // struct in_pktinfo: interface index, then the source to use, then a field that is for receiving only.
            let data = [[0; 4], four.octets(), [0; 4]].concat();
            (libc::SOL_IP, libc::IP_PKTINFO, data)
        }
        (SocketAddr::V6(_), from) => {
            let six = match from {
                IpAddr::V4(four) => four.to_ipv6_mapped(),
                IpAddr::V6(six) => six,
            };
            // struct in6_pktinfo: the source to use, then the interface index.
            let data = [&six.octets()[..], &[0; 4]].concat();
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    let mut message = (HEADER + data.len()).to_ne_bytes().to_vec();
    message.extend(level.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(WORD), 0);
    message
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:443", "[::]:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut bytes = [0; MAX];
            let len = encode(address, &mut bytes);
            assert_eq!(decode(&bytes[..len]), Some(address));
        }
    }

    #[test]
    fn control_messages_cut_short_are_no_destination() {
        assert_eq!(original_destination(&[]), None);
        assert_eq!(original_destination(&[0; HEADER]), None);
        let info = pktinfo("192.0.2.1:1".parse().unwrap(), Ipv4Addr::LOCALHOST.into());
        assert_eq!(original_destination(&info), None);
    }
}
