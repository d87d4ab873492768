//! Packets that are aimed at the borders of what rules match, where mistakes live.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::Index;

use super::{INTERFACES, MARKS};
use crate::rule::{Packet, PortRange, Prefix, Protocol, Rule, Verdict};

/// What a packet is aimed at: the border of some rule, or anything.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    rule: Index,
    local: Border,
    remote: Border,
    port: Border,
    other_protocol: bool,
    ifindex: u32,
    mark: Option<(u32, bool)>,
    remote_port: u16,
}

/// A value relative to a range.
#[derive(Clone, Copy, Debug)]
enum Border {
    First,
    Last,
    Before,
    After,
    Within(u128),
    Anywhere(u128),
}

fn border() -> impl Strategy<Value = Border> {
    prop_oneof![
        3 => Just(Border::First),
        2 => Just(Border::Last),
        1 => Just(Border::Before),
        1 => Just(Border::After),
        3 => any::<u128>().prop_map(Border::Within),
        1 => any::<u128>().prop_map(Border::Anywhere),
    ]
}

pub(super) fn aim() -> impl Strategy<Value = Aim> {
    let mark = prop_oneof![6 => (0_u32..MARKS, any::<bool>()).prop_map(Some), 1 => Just(None)];
    let borders = (any::<Index>(), border(), border(), border());
    (borders, prop::bool::weighted(0.1), 0..INTERFACES, mark, 1_u16..).prop_map(
        |((rule, local, remote, port), other_protocol, ifindex, mark, remote_port)| Aim {
            rule,
            local,
            remote,
            port,
            other_protocol,
            ifindex,
            mark,
            remote_port,
        },
    )
}

impl Border {
    fn of(self, first: u128, last: u128) -> u128 {
        match self {
            Self::First => first,
            Self::Last => last,
            Self::Before => first.wrapping_sub(1),
            Self::After => last.wrapping_add(1),
            Self::Within(n) => first + n % (last - first).saturating_add(1).max(1),
            Self::Anywhere(n) => n,
        }
    }

    fn of_prefix(self, prefix: Prefix) -> IpAddr {
        match prefix.net() {
            ipnet::IpNet::V4(net) => {
                let bits = self.of(net.network().to_bits().into(), net.broadcast().to_bits().into());
                Ipv4Addr::from_bits(bits as u32).into()
            }
            ipnet::IpNet::V6(net) => {
                Ipv6Addr::from_bits(self.of(net.network().to_bits(), net.broadcast().to_bits())).into()
            }
        }
    }
}

impl Aim {
    pub(super) fn packet(&self, rules: &[Rule]) -> Packet {
        let default = Prefix::v4(0xc000_0200, 24);
        let matching = match rules.is_empty() {
            true => Rule::new(Protocol::Tcp, default, PortRange::ANY, Verdict::Pass).matching,
            false => self.rule.get(rules).matching,
        };
        let everywhere = matching.local.family().everywhere();
        let port = self.port.of(matching.ports.first().into(), matching.ports.last().into()) as u16;
        let protocol = match (self.other_protocol, matching.protocol) {
            (false, protocol) => protocol,
            (true, Protocol::Tcp) => Protocol::Udp,
            (true, Protocol::Udp) => Protocol::Tcp,
        };
        let local = SocketAddr::new(self.local.of_prefix(matching.local), port);
        let remote = SocketAddr::new(self.remote.of_prefix(matching.source.unwrap_or(everywhere)), self.remote_port);
        // Half of the marks that are known are the rule's own, with other bits where they do not count.
        let mark = self.mark.map(|(mark, own)| match matching.mark.filter(|_| own) {
            Some(of_rule) => mark & !of_rule.mask() | of_rule.value(),
            None => mark,
        });
        Packet { protocol, local, remote, ifindex: self.ifindex, mark }
    }
}
