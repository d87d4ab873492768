//! A route as the kernel has it, and what the kernel does with a packet because of it.

use std::fmt;
use std::net::IpAddr;

use inlet_core::Prefix;
use netlink_packet_core::Nla as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};

use super::PROTOCOL;

/// The tables of linux/rtnetlink.h that have names.
const TABLES: [(u32, &str); 3] = [(DEFAULT_TABLE, "default"), (MAIN_TABLE, "main"), (LOCAL_TABLE, "local")];

/// `RT_TABLE_LOCAL`: the table that is asked first, and that says which addresses are local.
pub(super) const LOCAL_TABLE: u32 = 255;
/// `RT_TABLE_MAIN`.
pub(super) const MAIN_TABLE: u32 = 254;
/// `RT_TABLE_DEFAULT`.
pub(super) const DEFAULT_TABLE: u32 = 253;

/// `RTPROT_KERNEL`: the kernel made the route for an address.
const KERNEL: u8 = 2;

/// What the kernel does with a packet to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The address is local: the packet is for this host, and sockets are looked up.
    Local(Route),
    /// It is an IPv6 anycast address: datagrams are delivered, and the kernel makes no TCP connection with it.
    Anycast(Route),
    /// It is broadcast or multicast, which the hook never sees.
    Several,
    /// It is for another host.
    Elsewhere(Route),
    /// It is dropped, for this reason.
    Dropped(String),
    /// No route leads there.
    Nowhere,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub prefix: Prefix,
    /// `local`, `unicast`, `broadcast` and so on, as ip-route(8) calls them.
    pub kind: &'static str,
    /// The table that it is in.
    pub table: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// The interface that it leads through, by name.
    pub interface: Option<String>,
    /// The next routers on the way: one, or several that share it.
    pub gateways: Vec<IpAddr>,
    /// The type of service that it is for; 0 is every one.
    pub tos: u8,
    /// Of several to one prefix in one table the lowest counts.
    pub metric: u32,
    /// The sources that it is for, where not all (IPv6).
    pub source: Option<Prefix>,
    /// Whether its interface is down, so that it is not used.
    pub dead: bool,
    /// The numbers of what it has that Inlet does not know (`RTA_...`).
    pub unknown: Vec<u16>,
}

impl Reach {
    /// What the kernel does with a packet that meets this route; `None` for a route that sends it on to the next rule.
    pub(super) fn by(route: &Route) -> Option<Self> {
        let route = route.clone();
        // The kernel takes it for one that refuses (`fib6_is_reject`), lest packets go round in it; but not its own anycast
        // routes, to the routers of a network.
        let by_lo = route.prefix.is_v6() && route.interface.as_deref() == Some("lo");
        let loops = by_lo && !(route.kind == "anycast" && route.protocol == KERNEL);
        Some(match route.kind {
            "unicast" | "anycast" if loops => {
                Self::Dropped(format!("the route: {route}, as all IPv6 routes by lo but local ones"))
            }
            "throw" => return None,
            "local" => Self::Local(route),
            "anycast" if route.prefix.is_v6() => Self::Anycast(route),
            // IPv4 has the type, and takes a packet by such a route for an error.
            "anycast" | "blackhole" | "unreachable" | "prohibit" => Self::Dropped(format!("the route: {route}")),
            "broadcast" | "multicast" => Self::Several,
            _ => Self::Elsewhere(route),
        })
    }

    /// Whether the address is local, so that rules see TCP packets to it. For UDP that is so of an anycast address too.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The route, where there is one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Self::Local(route) | Self::Anycast(route) | Self::Elsewhere(route) => Some(route),
            Self::Several | Self::Dropped(_) | Self::Nowhere => None,
        }
    }
}

impl Route {
    /// Whether it makes addresses local: it says so, in the table that is asked first.
    pub fn makes_local(&self) -> bool {
        self.kind == "local" && self.table == LOCAL_TABLE
    }

    /// Whether Inlet made it.
    pub fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// Reads what the kernel says of a route; `interface` gives the name of an interface by its index.
    pub(super) fn read(message: &RouteMessage, interface: impl Fn(u32) -> Option<String>) -> Option<Self> {
        let header = &message.header;
        // The default route carries no destination.
        let nowhere = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let mut addr = nowhere;
        let mut route = Self {
            prefix: Prefix::holding(nowhere, 0)?,
            kind: name(header.kind),
            table: header.table.into(),
            protocol: header.protocol.into(),
            interface: None,
            gateways: Vec::new(),
            tos: header.tos,
            metric: 0,
            source: None,
            dead: header.flags.contains(RouteFlags::Dead),
            unknown: Vec::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => addr = ip(to)?,
                RouteAttribute::Source(from) => {
                    route.source = ip(from).and_then(|from| Prefix::holding(from, header.source_prefix_length));
                }
                RouteAttribute::Gateway(via) => route.gateways.extend(ip(via)),
                RouteAttribute::MultiPath(hops) => {
                    let attributes = hops.iter().flat_map(|hop| &hop.attributes);
                    route.gateways.extend(attributes.filter_map(|it| match it {
                        RouteAttribute::Gateway(via) => ip(via),
                        _ => None,
                    }));
                }
                RouteAttribute::Oif(index) => route.interface = interface(*index),
                RouteAttribute::Table(number) => route.table = *number,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Other(other) => route.unknown.push(other.kind()),
                _ => {}
            }
        }
        route.prefix = Prefix::holding(addr, header.destination_prefix_length)?;
        Some(route)
    }
}

impl fmt::Display for Route {
    /// As ip-route(8) takes it: the table is left out where it is the usual one for the type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.prefix)?;
        if self.tos != 0 {
            write!(f, " tos {:#04x}", self.tos)?;
        }
        for gateway in &self.gateways {
            write!(f, " via {gateway}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " dev {interface}")?;
        }
        let usual = match self.kind {
            "local" | "broadcast" | "anycast" => LOCAL_TABLE,
            _ => MAIN_TABLE,
        };
        match (self.table == usual, table_name(self.table)) {
            (true, _) => {}
            (_, Some(name)) => write!(f, " table {name}")?,
            (_, None) => write!(f, " table {}", self.table)?,
        }
        if self.is_ours() { f.write_str(" made by inlet") } else { Ok(()) }
    }
}

pub(super) fn table_name(table: u32) -> Option<&'static str> {
    TABLES.iter().find(|(number, _)| *number == table).map(|(_, name)| *name)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn name(kind: RouteType) -> &'static str {
    match kind {
        RouteType::Unicast => "unicast",
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Anycast => "anycast",
        RouteType::Multicast => "multicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => "other",
    }
}
