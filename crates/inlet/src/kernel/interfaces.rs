//! The interfaces of a network namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::netlink::Netlink;
use super::netns::Netns;
use crate::error::{Error, Result};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
}

/// All interfaces of a namespace, by index.
pub(crate) fn devices(netns: &Netns) -> Result<Vec<Device>> {
    let mut found = netns.run(list)?.map_err(Error::os("list", "the interfaces"))?;
    found.sort();
    Ok(found)
}

/// News of interfaces of a namespace.
pub(crate) struct Changes(Socket);

/// RTMGRP_LINK of linux/rtnetlink.h.
const LINK_CHANGES: u32 = 1;

impl Changes {
    /// Begins to be told.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, LINK_CHANGES))?;
            socket.set_non_blocking(true)?;
            Ok(Self(socket))
        };
        netns.run(open)?.map_err(Error::os("watch", "the interfaces"))
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

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn list() -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
    Netlink::connect(NETLINK_ROUTE)?.dump(all, |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            found.push(Device { index: link.header.index, name: name.unwrap_or_default() });
        }
    })?;
    Ok(found)
}
