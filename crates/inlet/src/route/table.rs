//! Which route the kernel takes to an address (RTM_GETROUTE), and all routes there are.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use inlet_core::Prefix;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily as Family, SocketFlags, SocketType, socket_with};

use super::PROTOCOL;
use crate::error::{Error, Result};
use crate::kernel::{Netlink, Netns};

/// The tables of linux/rtnetlink.h that have names.
const TABLES: [(u32, &str); 3] = [(253, "default"), (254, "main"), (LOCAL_TABLE, "local")];

/// `RT_TABLE_LOCAL`: the table that is asked first, and that says which addresses are local.
const LOCAL_TABLE: u32 = 255;

/// What the kernel does with a packet to an address that the host itself sends or forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The address is local: the packet is for this host, and sockets are looked up.
    Local(Route),
    /// It is broadcast or multicast, which the hook never sees.
    Multicast,
    /// It is for another host.
    Elsewhere(Route),
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
}

impl Reach {
    /// Whether the address is local.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The route, where there is one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Self::Local(route) | Self::Elsewhere(route) => Some(route),
            Self::Multicast | Self::Nowhere => None,
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
}

impl fmt::Display for Route {
    /// As ip-route(8) writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.prefix)?;
        for gateway in &self.gateways {
            write!(f, " via {gateway}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " dev {interface}")?;
        }
        match table_name(self.table) {
            Some("main") => {}
            Some(name) => write!(f, " table {name}")?,
            None => write!(f, " table {}", self.table)?,
        }
        if self.is_ours() { f.write_str(" made by inlet") } else { Ok(()) }
    }
}

pub(super) fn table_name(table: u32) -> Option<&'static str> {
    TABLES.iter().find(|(number, _)| *number == table).map(|(_, name)| *name)
}

/// The routes of a namespace, to be asked many times.
pub(crate) struct RouteTable {
    pub(super) netlink: Netlink,
    /// To ask for names of interfaces.
    socket: OwnedFd,
}

impl RouteTable {
    /// Opens the routes of a namespace.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let socket = socket_with(Family::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
            Ok(Self { netlink: Netlink::connect(NETLINK_ROUTE)?, socket })
        };
        netns.run(open)?.map_err(Error::os("open", "the routes"))
    }

    /// What the kernel does with a packet to this address, whoever it comes from.
    pub(crate) fn reach(&self, addr: IpAddr) -> Result<Reach> {
        self.ask(addr, question(addr))
    }

    /// What it does with one that comes from this address on this interface.
    pub(crate) fn reach_from(&self, addr: IpAddr, source: IpAddr, ifindex: u32) -> Result<Reach> {
        let mut question = question(addr);
        question.header.source_prefix_length = question.header.destination_prefix_length;
        // Which table it is in is what policy routing is about.
        question.header.flags |= RouteFlags::LookupTable;
        question.attributes.push(RouteAttribute::Source(source.into()));
        question.attributes.push(RouteAttribute::Iif(ifindex));
        self.ask(addr, question)
    }

    fn ask(&self, addr: IpAddr, question: RouteMessage) -> Result<Reach> {
        if addr.is_multicast() {
            return Ok(Reach::Multicast);
        }
        let mut found = None;
        let asked = self.netlink.request(RouteNetlinkMessage::GetRoute(question), 0, |answer| {
            if let RouteNetlinkMessage::NewRoute(message) = answer {
                found = self.read(&message);
            }
        });
        match (asked.map_err(|cause| cause.raw_os_error()), found) {
            (Ok(()), Some((RouteType::Local | RouteType::Anycast, route))) => Ok(Reach::Local(route)),
            (Ok(()), Some((RouteType::Broadcast | RouteType::Multicast, _))) => Ok(Reach::Multicast),
            (Ok(()), Some((RouteType::Unicast, route))) => Ok(Reach::Elsewhere(route)),
            // RouteTable that refuse (unreachable, blackhole, prohibit) are told as errors, of various numbers.
            (Ok(()), _)
            | (Err(Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES | libc::EXDEV)), _) => {
                Ok(Reach::Nowhere)
            }
            (Err(number), _) => {
                let cause = number.map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error);
                Err(Error::os("look up the route to", addr)(cause))
            }
        }
    }

    /// All routes of all tables, of both families. Those that are not for one prefix and kind are left out.
    pub(crate) fn list(&self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let each = |answer| {
                if let RouteNetlinkMessage::NewRoute(message) = answer {
                    all.extend(self.read(&message).map(|(_, route)| route));
                }
            };
            self.netlink.dump(RouteNetlinkMessage::GetRoute(request), each).map_err(Error::os("list", "the routes"))?;
        }
        Ok(all)
    }

    /// The index of the loopback interface and whether it is up: local routes lead through it.
    pub(super) fn loopback(&self) -> Result<(u32, bool)> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName("lo".to_owned()));
        let mut found = None;
        let each = |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found = Some((link.header.index, link.header.flags.contains(LinkFlags::Up)));
            }
        };
        let asked = self.netlink.request(RouteNetlinkMessage::GetLink(request), 0, each);
        asked
            .and_then(|()| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(Error::os("look up interface", "lo"))
    }

    /// Makes a prefix local, by a route of ours. One that is there already is fine.
    pub(super) fn add(&self, prefix: Prefix, loopback: u32) -> Result<()> {
        let request = RouteNetlinkMessage::NewRoute(ours(prefix, loopback));
        match self.netlink.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {}) {
            Err(cause) if cause.raw_os_error() != Some(libc::EEXIST) => {
                Err(Error::os("add the local route", prefix)(cause))
            }
            _ => Ok(()),
        }
    }

    /// Removes a route of ours. One that is gone already is fine.
    pub(super) fn remove(&self, prefix: Prefix, loopback: u32) -> Result<()> {
        let request = RouteNetlinkMessage::DelRoute(ours(prefix, loopback));
        match self.netlink.request(request, 0, |_| {}) {
            Err(cause) if cause.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::os("remove the local route", prefix)(cause))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, message: &RouteMessage) -> Option<(RouteType, Route)> {
        let RouteHeader { address_family, destination_prefix_length: len, .. } = message.header;
        let (mut addr, mut gateways, mut interface, mut table) =
            (None, Vec::new(), None, u32::from(message.header.table));
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => addr = ip(to),
                RouteAttribute::Gateway(via) => gateways.extend(ip(via)),
                RouteAttribute::MultiPath(hops) => {
                    let attributes = hops.iter().flat_map(|hop| &hop.attributes);
                    gateways.extend(attributes.filter_map(|it| match it {
                        RouteAttribute::Gateway(via) => ip(via),
                        _ => None,
                    }));
                }
                RouteAttribute::Oif(index) => interface = index_to_name(&self.socket, *index).ok(),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        // The default route carries no destination.
        let addr = addr.or(match address_family {
            AddressFamily::Inet => Some(IpAddr::from([0; 4])),
            AddressFamily::Inet6 => Some(IpAddr::from([0; 16])),
            _ => None,
        })?;
        let prefix = Prefix::holding(addr, len)?;
        let (kind, protocol) = (message.header.kind, message.header.protocol.into());
        Some((kind, Route { prefix, kind: name(kind), table, protocol, interface, gateways }))
    }
}

/// Asks for the entry of the table that decides, not for the route that comes of it.
fn question(addr: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, len) = match addr {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = len;
    message.header.flags = RouteFlags::FibMatch;
    message.attributes.push(RouteAttribute::Destination(addr.into()));
    message
}

/// A local route of ours, to be added or removed. The kernel removes only what has this protocol number.
fn ours(prefix: Prefix, loopback: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if prefix.is_v6() { AddressFamily::Inet6 } else { AddressFamily::Inet },
        destination_prefix_length: prefix.len(),
        table: LOCAL_TABLE as u8,
        protocol: PROTOCOL.into(),
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(prefix.addr().into()));
    message.attributes.push(RouteAttribute::Oif(loopback));
    message
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
