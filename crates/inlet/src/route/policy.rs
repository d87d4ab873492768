//! Policy routing rules (ip-rule(8)), which VRFs are made of too: with them the table that says what is local depends
//! on more than the destination.

use std::fmt::Write as _;

use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::table::{RouteTable, table_name};
use crate::error::{Error, Result};

/// What stands for no limit in `FRA_SUPPRESS_PREFIXLEN` and `FRA_SUPPRESS_IFGROUP`.
const NO_LIMIT: u32 = u32::MAX;

impl RouteTable {
    /// The rules of a family beside those that every namespace has, in order, as ip-rule(8) writes them.
    pub(crate) fn policies(&self, v6: bool) -> Result<Vec<String>> {
        let mut request = RuleMessage::default();
        request.header.family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let mut found = Vec::new();
        let each = |answer| {
            if let RouteNetlinkMessage::NewRule(rule) = answer
                && !is_usual(&rule)
            {
                found.push(text(&rule));
            }
        };
        let asked = self.netlink.dump(RouteNetlinkMessage::GetRule(request), each);
        asked.map_err(Error::os("list", "the policy routing rules")).map(|()| found)
    }
}

/// Whether it asks one of the tables that are always asked, for every packet.
fn is_usual(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    let is_for_all = header.dst_len == 0 && header.src_len == 0 && header.tos == 0;
    let says_nothing = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Priority(_) | RuleAttribute::Table(_) | RuleAttribute::Protocol(_) => true,
        RuleAttribute::SuppressPrefixLen(limit) | RuleAttribute::SuppressIfGroup(limit) => *limit == NO_LIMIT,
        _ => false,
    };
    header.action == RuleAction::ToTable
        && table_name(table(rule)).is_some()
        && is_for_all
        && !header.flags.contains(RuleFlags::Invert)
        && rule.attributes.iter().all(says_nothing)
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
    for attribute in &rule.attributes {
        // Writing to a String does not fail.
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
            _ => Ok(()),
        };
    }
    let not = if header.flags.contains(RuleFlags::Invert) { "not " } else { "" };
    format!("{priority}: {not}from {source}{more} {to}")
}
