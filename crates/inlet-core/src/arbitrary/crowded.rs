//! One ruleset in which everything is crowded somewhere, and packets at the borders of its rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::rule::{Packet, PortRange, Prefix, Protocol, Rule, Verdict};
use crate::ruleset::{Builder, Ruleset};

const NET4: u32 = 10 << 24;
const NET6: u128 = 0x2001_0db8 << 96;

/// Many hosts in few networks, prefixes inside one another at every length, indexes of several levels, runs of blocks
/// to bisect, and port tables beyond one cache line.
pub fn crowded() -> Ruleset {
    let mut builder = Builder::new();
    let mut push = |local: Prefix, first: u16, last: u16| {
        let ports = PortRange::new(first, last).unwrap_or(PortRange::ANY);
        // Verdicts that tell neighbours apart.
        let verdict = if first.is_multiple_of(3) { Verdict::Refuse } else { Verdict::Pass };
        builder.push(&Rule::new(Protocol::Tcp, local, ports, verdict)).unwrap_or_else(|error| panic!("{error}"));
    };
    for host in 0..4000_u32 {
        let port = 80 + (host % 5) as u16;
        push(Prefix::v4(NET4 + ((host % 3) << 16) + host, 32), port, port);
        push(Prefix::v6(NET6 + (u128::from(host % 7) << 16) + u128::from(host), 128), port, 443);
        push(Prefix::v6(NET6 + ((u128::from(host) * 5) << 80), 64), 1 + port % 2, 65535);
    }
    (0..=32).for_each(|len| push(Prefix::v4(u32::MAX, len), 1000 + u16::from(len), 2000));
    (0..5000).for_each(|n| push(Prefix::v4(0xc000_0200, 24), 10 * n + 1, 10 * n + 1 + n % 9));
    let near = NET6 + (3 << 88);
    ever_closer(88).for_each(|distance| push(Prefix::v6(near + distance, 128), 50 + (distance % 7) as u16, 60));
    builder.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// Distances, the same number in each power of two. So hosts get ever more crowded towards one address, on more levels
/// than there are indexes.
fn ever_closer(bits: u32) -> impl Iterator<Item = u128> {
    const EACH: u128 = 16;
    (4..bits).flat_map(|bit| (0..EACH).map(move |at| (1 << bit) + (at << bit) / EACH))
}

/// Packets of both protocols just inside and just outside of every `step`-th rule.
pub fn at_borders(ruleset: &Ruleset, step: usize) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut push = |local: IpAddr, port: u16| {
        let remote = if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let to = |protocol| Packet::new(protocol, SocketAddr::new(local, port), SocketAddr::new(remote, 4000));
        packets.extend(Protocol::ALL.map(to));
    };
    for rule in ruleset.rules().step_by(step) {
        let (first, last) = (rule.matching.local.addr(), rule.matching.local.net().broadcast());
        let ports = rule.matching.ports;
        push(first, ports.first());
        push(last, ports.last().saturating_add(1));
        push(beside(first, -1), ports.first());
        push(beside(last, 1), ports.first());
    }
    packets
}

/// The address at this distance.
fn beside(addr: IpAddr, distance: i8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().wrapping_add_signed(distance.into())).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().wrapping_add_signed(distance.into())).into(),
    }
}
