//! The conversation with the kernel about routes: which one it takes (RTM_GETROUTE), all that there are, and those of ours.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use inlet_core::{Family as Side, Packet, Prefix, Protocol};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoData, InfoVrf, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily as Family, SocketFlags, SocketType, socket_with};

use super::PROTOCOL;
use super::entry::{LOCAL_TABLE, Reach, Route};
use super::policy::{Incoming, Policy};
use crate::error::{Error, Result};
use crate::kernel::{Netlink, Netns};

/// The routes of a namespace, to be asked many times.
pub(crate) struct RouteTable {
    netlink: Netlink,
    /// To ask for names of interfaces.
    socket: OwnedFd,
}

/// What the kernel says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// What becomes of it.
    Reach(Reach),
    /// It is not delivered, with the number of the error.
    Error(i32),
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

    /// What the kernel does with a packet that the host itself sends to this address, from this one if it is given.
    pub(crate) fn reach(&self, addr: IpAddr, source: Option<IpAddr>) -> Result<Said> {
        self.ask(addr, question(addr, source))
    }

    /// What it does with one that comes in, of which source and interface are known.
    pub(super) fn reach_of(&self, packet: &Packet) -> Result<Said> {
        let (local, remote) = (packet.local, packet.remote);
        let mut question = question(local.ip(), Some(remote.ip()));
        question.attributes.extend([
            RouteAttribute::Iif(packet.ifindex),
            RouteAttribute::IpProto(
                if packet.protocol == Protocol::Tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP } as u8,
            ),
            RouteAttribute::Dport(local.port()),
        ]);
        if remote.port() != 0 {
            question.attributes.push(RouteAttribute::Sport(remote.port()));
        }
        self.ask(local.ip(), question)
    }

    fn ask(&self, addr: IpAddr, question: RouteMessage) -> Result<Said> {
        let mut found = None;
        let asked = self.netlink.request(RouteNetlinkMessage::GetRoute(question), 0, |answer| {
            if let RouteNetlinkMessage::NewRoute(message) = answer {
                found = self.read(&message);
            }
        });
        match (asked.map_err(|cause| (cause.raw_os_error(), cause)), found) {
            (Ok(()), Some(route)) => Ok(Said::Reach(Reach::by(&route).unwrap_or(Reach::Nowhere))),
            (Ok(()), None) => Ok(Said::Reach(Reach::Nowhere)),
            // Routes that refuse (unreachable, blackhole, prohibit) are reported as errors, of various numbers.
            (Err((Some(number @ (libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES)), _)), _)
            | (Err((Some(number @ libc::EXDEV), _)), _) => Ok(Said::Error(number)),
            (Err((_, cause)), _) => Err(Error::os("look up the route to", addr)(cause)),
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
                    all.extend(self.read(&message));
                }
            };
            self.netlink.dump(RouteNetlinkMessage::GetRoute(request), each).map_err(Error::os("list", "the routes"))?;
        }
        Ok(all)
    }

    /// The policy routing rules of a family, in order.
    pub(super) fn policies(&self, family: Side) -> Result<Vec<Policy>> {
        let mut request = RuleMessage::default();
        request.header.family = if family == Side::V6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let mut found = Vec::new();
        let each = |answer| {
            if let RouteNetlinkMessage::NewRule(rule) = answer {
                found.push(Policy::of(rule));
            }
        };
        let asked = self.netlink.dump(RouteNetlinkMessage::GetRule(request), each);
        asked.map_err(Error::os("list", "the policy routing rules")).map(|()| found)
    }

    /// The neighbours: hosts to which the kernel knows the way on a network.
    pub(super) fn neighbours(&self) -> Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let each = |answer| {
            let RouteNetlinkMessage::NewNeighbour(entry) = answer else { return };
            // Nobody is there, or nobody has to be asked.
            let unknown =
                [NeighbourState::None, NeighbourState::Incomplete, NeighbourState::Failed, NeighbourState::Noarp];
            if unknown.contains(&entry.header.state) {
                return;
            }
            found.extend(entry.attributes.iter().find_map(|it| match it {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => Some(IpAddr::from(*addr)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => Some(IpAddr::from(*addr)),
                _ => None,
            }));
        };
        self.netlink.dump(request, each).map_err(Error::os("list", "the neighbours")).map(|()| found)
    }

    /// The interface of an index, with the VRF that it is in or is.
    pub(super) fn incoming(&self, ifindex: u32) -> Result<Incoming> {
        let link = self.link(ifindex)?;
        let master = link.attributes.iter().find_map(|it| match it {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        });
        let vrf = match (vrf(&link), master) {
            (None, Some(index)) => vrf(&self.link(index)?),
            (own, _) => own,
        };
        Ok(Incoming { name: name(&link), vrf })
    }

    fn link(&self, index: u32) -> Result<LinkMessage> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        self.one_link(request, &index.to_string())
    }

    fn one_link(&self, request: LinkMessage, what: &str) -> Result<LinkMessage> {
        let mut found = None;
        let each = |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found = Some(link);
            }
        };
        let asked = self.netlink.request(RouteNetlinkMessage::GetLink(request), 0, each);
        asked
            .and_then(|()| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(Error::os("look up interface", what))
    }

    /// The index of the loopback interface and whether it is up: local routes lead through it.
    pub(super) fn loopback(&self) -> Result<(u32, bool)> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName("lo".to_owned()));
        let link = self.one_link(request, "lo")?;
        Ok((link.header.index, link.header.flags.contains(LinkFlags::Up)))
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

    fn read(&self, message: &RouteMessage) -> Option<Route> {
        Route::read(message, |index| index_to_name(&self.socket, index).ok())
    }
}

/// The VRF that an interface is.
fn vrf(link: &LinkMessage) -> Option<(String, u32)> {
    let infos =
        link.attributes.iter().find_map(|it| if let LinkAttribute::LinkInfo(all) = it { Some(all) } else { None })?;
    let data =
        infos.iter().find_map(|it| if let LinkInfo::Data(InfoData::Vrf(all)) = it { Some(all) } else { None })?;
    let table = data.iter().find_map(|it| if let InfoVrf::TableId(table) = it { Some(*table) } else { None })?;
    Some((name(link), table))
}

fn name(link: &LinkMessage) -> String {
    let name = |it: &LinkAttribute| if let LinkAttribute::IfName(name) = it { Some(name.clone()) } else { None };
    link.attributes.iter().find_map(name).unwrap_or_default()
}

/// Asks for the entry of the table that decides, not for the route that comes of it.
fn question(addr: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, len) = match addr {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = len;
    // Which table it is in is what policy routing is about.
    message.header.flags = RouteFlags::FibMatch | RouteFlags::LookupTable;
    message.attributes.push(RouteAttribute::Destination(addr.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = len;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
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
