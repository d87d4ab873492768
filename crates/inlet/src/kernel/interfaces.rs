//! The interfaces of a network namespace.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

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
