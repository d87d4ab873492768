//! Policy routing rules (ip-rule(8)), which VRFs are made of too: they say which tables are asked for which packets, in
//! order.

use std::fmt::Write as _;
use std::net::IpAddr;

use inlet_core::{Prefix, Protocol};
use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::entry::table_name;

/// What stands for no limit in `FRA_SUPPRESS_PREFIXLEN` and `FRA_SUPPRESS_IFGROUP`.
const NO_LIMIT: u32 = u32::MAX;

/// A packet that comes in, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Arriving {
    /// Where it goes to.
    pub(crate) addr: IpAddr,
    /// Where it comes from.
    pub(crate) source: Option<IpAddr>,
    /// The interface that it comes in on, and the VRF which that is in.
    pub(crate) interface: Option<Incoming>,
    /// Its protocol, with the ports of source and destination.
    pub(crate) transport: Option<(Protocol, u16, u16)>,
}

/// An interface on which packets come in.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) name: String,
    /// The VRF that it is in, with its table.
    pub(crate) vrf: Option<(String, u32)>,
}

/// Whether a packet meets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// That depends on what is not known of it.
    Unknown,
}

impl Fit {
    fn of(holds: Option<bool>) -> Self {
        match holds {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// What a rule does with the packets that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Asks a table.
    Table(u32),
    /// Asks the table of the VRF that the packet came in by.
    Vrf,
    /// Goes on with the rule of this number.
    Goto(u32),
    /// Nothing.
    Nop,
    /// Drops the packet.
    Drop,
}

/// A policy routing rule.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) priority: u32,
    pub(super) action: Action,
    /// Routes to prefixes of this length or shorter count as none.
    pub(super) suppressed: Option<u32>,
    /// As ip-rule(8) writes it.
    pub(super) text: String,
    /// The numbers of what it has that Inlet does not know (`FRA_...`).
    pub(super) unknown: Vec<u16>,
    rule: RuleMessage,
}

impl Policy {
    pub(super) fn of(rule: RuleMessage) -> Self {
        let find = |of: &dyn Fn(&RuleAttribute) -> Option<u32>| rule.attributes.iter().find_map(of);
        let priority = find(&|it| if let RuleAttribute::Priority(number) = it { Some(*number) } else { None });
        let goto = find(&|it| if let RuleAttribute::Goto(number) = it { Some(*number) } else { None });
        let suppressed = find(&|it| match it {
            RuleAttribute::SuppressPrefixLen(len) if *len != NO_LIMIT => Some(*len),
            _ => None,
        });
        let action = match rule.header.action {
            RuleAction::ToTable if rule.attributes.contains(&RuleAttribute::L3MDev(true)) => Action::Vrf,
            RuleAction::ToTable => Action::Table(table(&rule)),
            RuleAction::Goto => goto.map_or(Action::Nop, Action::Goto),
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => Action::Drop,
            _ => Action::Nop,
        };
        let unknown = |it: &RuleAttribute| match it {
            RuleAttribute::Other(nla) if !says_nothing(nla) && said(nla.kind()).is_none() => Some(nla.kind()),
            _ => None,
        };
        let unknown = rule.attributes.iter().filter_map(unknown).collect();
        Self { priority: priority.unwrap_or(0), action, suppressed, text: text(&rule), unknown, rule }
    }

    /// Whether the rule is for a packet.
    pub(super) fn fits(&self, packet: &Arriving) -> Fit {
        let header = &self.rule.header;
        let tos = if header.tos == 0 { Fit::Yes } else { Fit::Unknown };
        let all = self.rule.attributes.iter().map(|it| condition(it, self, packet)).fold(tos, Fit::and);
        if header.flags.contains(RuleFlags::Invert) { all.not() } else { all }
    }

    /// The addresses that it is for, where not all.
    pub(super) fn to(&self) -> Option<Prefix> {
        let to = |it: &RuleAttribute| if let RuleAttribute::Destination(addr) = it { Some(*addr) } else { None };
        let addr = self.rule.attributes.iter().find_map(to)?;
        Prefix::holding(addr, self.rule.header.dst_len)
    }

    /// Whether it asks one of the tables that are always asked, for every packet.
    pub(super) fn is_usual(&self) -> bool {
        let header = &self.rule.header;
        let is_for_all = header.dst_len == 0 && header.src_len == 0 && header.tos == 0;
        let says_nothing = |attribute: &RuleAttribute| match attribute {
            RuleAttribute::Priority(_) | RuleAttribute::Table(_) | RuleAttribute::Protocol(_) => true,
            RuleAttribute::SuppressPrefixLen(limit) | RuleAttribute::SuppressIfGroup(limit) => *limit == NO_LIMIT,
            _ => false,
        };
        matches!(self.action, Action::Table(table) if table_name(table).is_some())
            && is_for_all
            && !header.flags.contains(RuleFlags::Invert)
            && self.rule.attributes.iter().all(says_nothing)
    }
}

/// Whether a packet meets one of the conditions of a rule. What is not a condition every packet meets.
fn condition(attribute: &RuleAttribute, policy: &Policy, packet: &Arriving) -> Fit {
    let header = &policy.rule.header;
    let inside =
        |prefix: &IpAddr, len: u8, addr: IpAddr| Prefix::holding(*prefix, len).is_some_and(|it| it.contains(addr));
    let port = |of: fn((Protocol, u16, u16)) -> u16, first: u16, last: u16| {
        // Without a source nothing is known of its port.
        packet.transport.map(of).filter(|port| *port != 0).map(|port| (first..=last).contains(&port))
    };
    Fit::of(match attribute {
        RuleAttribute::Destination(to) => Some(inside(to, header.dst_len, packet.addr)),
        RuleAttribute::Source(from) => packet.source.map(|source| inside(from, header.src_len, source)),
        RuleAttribute::Iifname(name) => {
            packet.interface.as_ref().map(|it| it.name == *name || it.vrf.as_ref().is_some_and(|(vrf, _)| vrf == name))
        }
        // What comes in does not know where it leaves.
        RuleAttribute::Oifname(_) => Some(false),
        RuleAttribute::IpProtocol(number) => packet.transport.map(|(protocol, ..)| {
            let of_packet = if protocol == Protocol::Tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP };
            i32::from(*number) == of_packet
        }),
        RuleAttribute::SourcePortRange(ports) => port(|(_, source, _)| source, ports.start, ports.end),
        RuleAttribute::DestinationPortRange(ports) => port(|(.., local)| local, ports.start, ports.end),
        RuleAttribute::SuppressIfGroup(limit) => (*limit == NO_LIMIT).then_some(true),
        RuleAttribute::Other(nla) => says_nothing(nla).then_some(true),
        RuleAttribute::FwMark(_) | RuleAttribute::FwMask(_) | RuleAttribute::TunId(_) | RuleAttribute::UidRange(_) => {
            None
        }
        _ => Some(true),
    })
}

/// Attributes of newer kernels (linux/fib_rules.h): of the packet they mean what is not known of it.
fn said(kind: u16) -> Option<&'static str> {
    Some(match kind {
        25 | 30 => "dscp",
        26 | 27 => "flowlabel",
        _ => return None,
    })
}

/// Whether an attribute narrows nothing: the mask of a port (`FRA_SPORT_MASK`, `FRA_DPORT_MASK`) that has all bits.
fn says_nothing(attribute: &DefaultNla) -> bool {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    [28, 29].contains(&attribute.kind()) && value.iter().all(|byte| *byte == u8::MAX)
}

fn table(rule: &RuleMessage) -> u32 {
    let named =
        rule.attributes.iter().find_map(|it| if let RuleAttribute::Table(table) = it { Some(*table) } else { None });
    named.unwrap_or_else(|| rule.header.table.into())
}

/// `1000: from all iif eth0 lookup 100`
fn text(rule: &RuleMessage) -> String {
    let header = &rule.header;
    let (mut priority, mut source, mut more) = (0, "all".to_owned(), String::new());
    let mut to = match header.action {
        RuleAction::ToTable => match table_name(table(rule)) {
            Some(name) => format!("lookup {name}"),
            None => format!("lookup {}", table(rule)),
        },
        RuleAction::Nop => "nop".to_owned(),
        RuleAction::Blackhole => "blackhole".to_owned(),
        RuleAction::Unreachable => "unreachable".to_owned(),
        RuleAction::Prohibit => "prohibit".to_owned(),
        _ => String::new(),
    };
    if header.tos != 0 {
        // Writing to a String does not fail.
        let _ = write!(more, " tos {:#04x}", header.tos);
    }
    for attribute in &rule.attributes {
        let _ = match attribute {
            RuleAttribute::Priority(number) => {
                priority = *number;
                Ok(())
            }
            RuleAttribute::Source(addr) => {
                source = format!("{addr}/{}", header.src_len);
                Ok(())
            }
            RuleAttribute::Goto(number) => {
                to = format!("goto {number}");
                Ok(())
            }
            RuleAttribute::L3MDev(true) => {
                to = "lookup [l3mdev-table]".to_owned();
                Ok(())
            }
            RuleAttribute::Destination(addr) => write!(more, " to {addr}/{}", header.dst_len),
            RuleAttribute::FwMark(mark) => write!(more, " fwmark {mark:#x}"),
            RuleAttribute::FwMask(mask) if *mask != u32::MAX => write!(more, "/{mask:#x}"),
            RuleAttribute::Iifname(name) => write!(more, " iif {name}"),
            RuleAttribute::Oifname(name) => write!(more, " oif {name}"),
            RuleAttribute::IpProtocol(protocol) => write!(more, " ipproto {}", i32::from(*protocol)),
            RuleAttribute::SourcePortRange(ports) => write!(more, " sport {}-{}", ports.start, ports.end),
            RuleAttribute::DestinationPortRange(ports) => write!(more, " dport {}-{}", ports.start, ports.end),
            RuleAttribute::UidRange(uids) => write!(more, " uidrange {}-{}", uids.start, uids.end),
            RuleAttribute::TunId(id) => write!(more, " tun_id {id}"),
            RuleAttribute::SuppressPrefixLen(len) if *len != NO_LIMIT => write!(more, " suppress_prefixlength {len}"),
            RuleAttribute::SuppressIfGroup(group) if *group != NO_LIMIT => write!(more, " suppress_ifgroup {group}"),
            RuleAttribute::Other(other) if says_nothing(other) => Ok(()),
            RuleAttribute::Other(other) => match said(other.kind()) {
                Some(name) => write!(more, " {name}"),
                None => write!(more, " attribute {}", other.kind()),
            },
            _ => Ok(()),
        };
    }
    let not = if header.flags.contains(RuleFlags::Invert) { "not " } else { "" };
    format!("{priority}: {not}from {source}{more} {to}")
}
