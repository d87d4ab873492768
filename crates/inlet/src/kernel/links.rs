//! The interfaces of a namespace: their names, which of them belong to a VRF, and news of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use inlet_core::InterfaceName;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::{Netlink, Netns};
use crate::error::{Error, Result};

/// All interfaces of a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Vec<Link>);

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The interface that it is enslaved to.
    controller: Option<u32>,
    is_vrf: bool,
}

impl Links {
    /// Asks the kernel.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let list = || -> io::Result<Vec<Link>> {
            let mut links = Vec::new();
            Netlink::connect(NETLINK_ROUTE)?.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| {
                if let RouteNetlinkMessage::NewLink(message) = answer {
                    links.push(Link::of(&message));
                }
            })?;
            links.sort_by_key(|link| link.index);
            Ok(links)
        };
        netns.run(list)?.map(Self).map_err(Error::os("list", "interfaces"))
    }

    /// The names of all of them.
    pub(super) fn names(self) -> Vec<String> {
        self.0.into_iter().map(|link| link.name).collect()
    }

    /// Each of them, by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter()
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Link> {
        self.0.iter().find(|link| link.index == index)
    }

    /// The name of an interface that is there.
    pub(crate) fn known(&self, index: u32) -> Option<InterfaceName> {
        self.get(index).and_then(|link| link.name.parse().ok())
    }

    /// The name of an interface, or its index when it is gone.
    pub(crate) fn name(&self, index: u32) -> String {
        self.get(index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }

    /// The VRF that an interface belongs to. The kernel reports the VRF as the one on which its packets come in
    /// (`l3mdev_ip_rcv`), to rules and to the program.
    pub(crate) fn vrf_of(&self, index: u32) -> Option<&Link> {
        let controller = self.get(index)?.controller?;
        self.get(controller).filter(|link| link.is_vrf)
    }
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self { index: message.header.index, ..Self::default() };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::LinkInfo(infos) => {
                    link.is_vrf = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vrf)));
                }
                _ => {}
            }
        }
        link
    }
}

/// News of the interfaces of a namespace.
pub(crate) struct LinkChanges(Socket);

/// RTMGRP_LINK of linux/rtnetlink.h.
const RTMGRP_LINK: u32 = 1;

impl LinkChanges {
    /// Begins to be told.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, RTMGRP_LINK))?;
            socket.set_non_blocking(true)?;
            Ok(Self(socket))
        };
        netns.run(open)?.map_err(Error::os("watch", "interfaces"))
    }

    /// Takes all that was told. What it was does not matter, nor that some of it was lost.
    pub(crate) fn drain(&self) {
        let mut news = Vec::with_capacity(1 << 14);
        loop {
            news.clear();
            match self.0.recv(&mut news, 0) {
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

impl AsFd for LinkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
impl Links {
    /// A VRF `blue` (9) with `v0` (5) in it, and `v1` (6) outside of it in a bridge (7).
    pub(crate) fn with_vrf() -> Self {
        let link = |index, name: &str, controller, is_vrf| Link { index, name: name.to_owned(), controller, is_vrf };
        Self(vec![
            link(5, "v0", Some(9), false),
            link(6, "v1", Some(7), false),
            link(7, "br0", None, false),
            link(9, "blue", None, true),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_vrf_are_known() {
        let links = Links::with_vrf();
        assert_eq!(links.vrf_of(5).map(|vrf| vrf.name.as_str()), Some("blue"));
        assert_eq!([6, 9, 4].map(|index| links.vrf_of(index).cloned()), [None, None, None]);
        assert_eq!((links.name(5).as_str(), links.name(4).as_str()), ("v0", "interface 4"));
    }
}
