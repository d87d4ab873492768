//! A pair of virtual Ethernet interfaces between two namespaces, for traffic that does not come by loopback.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::{Context, Result};
use crate::listening::timespec;
use crate::netns::Namespace;
use crate::patience::PATIENCE;
use crate::raw;

/// RTMGRP_LINK of linux/rtnetlink.h: changes of interfaces.
const LINK_CHANGES: u32 = 1;

/// One end of the pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace that gets the end.
    pub namespace: &'a Namespace,
    /// The interface's name there.
    pub name: &'a str,
    /// Its addresses with prefix lengths, "192.0.2.1/24" or "2001:db8::1/64".
    pub addresses: &'a [&'a str],
}

/// Makes a pair with one end in each namespace, both up, and returns when packets can pass.
pub fn veth(one: End<'_>, other: End<'_>) -> Result<()> {
    let peer = other.namespace.path().to_string_lossy();
    one.namespace.ip(&["link", "add", one.name, "type", "veth", "peer", "name", other.name, "netns", &peer])?;
    let changes = [watch(one)?, watch(other)?];
    for end in [one, other] {
        configure(end)?;
    }
    for (end, changes) in [one, other].iter().zip(&changes) {
        wait_up(*end, changes)?;
    }
    Ok(())
}

/// Has the kernel compute the checksums of what leaves through an interface, or leave them to the interface.
pub fn checksum_offload(namespace: &Namespace, interface: &str, on: bool) -> Result<()> {
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let set = || -> io::Result<()> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        raw::ethtool(socket.as_fd(), interface, ETHTOOL_STXCSUM, on.into())
    };
    namespace.enter(set).context("set the checksum offload of", interface)
}

/// Has the kernel put VLAN tags into what leaves through an interface, or leave them to the interface.
pub fn vlan_offload(namespace: &Namespace, interface: &str, on: bool) -> Result<()> {
    const ETHTOOL_SFLAGS: u32 = 0x26;
    const ETH_FLAG_TXVLAN: u32 = 1 << 7;
    let set = || -> io::Result<()> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        raw::ethtool(socket.as_fd(), interface, ETHTOOL_SFLAGS, if on { ETH_FLAG_TXVLAN } else { 0 })
    };
    namespace.enter(set).context("set the VLAN offload of", interface)
}

fn configure(end: End<'_>) -> Result<()> {
    for address in end.addresses {
        // Without nodad a v6 address is unusable for a second or two, while the kernel looks for duplicates.
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        let add = [&["addr", "add", address, "dev", end.name], nodad].concat();
        end.namespace.ip(&add)?;
    }
    end.namespace.ip(&["link", "set", end.name, "up"])?;
    Ok(())
}

fn watch(end: End<'_>) -> Result<OwnedFd> {
    end.namespace.enter(link_changes).context("watch interface", end.name)
}

fn link_changes() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None, // protocol 0 is NETLINK_ROUTE
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, LINK_CHANGES))?;
    Ok(socket)
}

/// Until the kernel's link watch has run, the end that came up first drops what is sent.
fn wait_up(end: End<'_>, changes: &OwnedFd) -> Result<()> {
    while !end.namespace.ip(&["-o", "link", "show", "dev", end.name])?.contains("state UP") {
        next_change(changes).context("wait for interface", end.name)?;
    }
    Ok(())
}

fn next_change(changes: &OwnedFd) -> io::Result<()> {
    let mut ready = [PollFd::new(changes, PollFlags::IN)];
    if poll(&mut ready, Some(&timespec(PATIENCE)))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut notes = [0u8; 8192];
    while recv(changes, &mut notes[..], RecvFlags::empty()).is_ok() {}
    Ok(())
}
