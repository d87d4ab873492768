//! A packet as it comes to the hook: on a VRF in the place of a member of it.

use std::net::SocketAddr;

use inlet_core::{Packet, Protocol};

use super::Explainer;
use crate::socket::SocketState;

/// A packet as the hook sees it.
pub(super) struct Arrived {
    pub(super) packet: Packet,
    /// The VRF in the place of the interface that was asked about.
    pub(super) vrf: Option<String>,
}

impl Explainer<'_> {
    /// What the kernel makes of the interface: a packet of a member of a VRF comes in on the VRF.
    pub(super) fn arrived(&self, packet: &Packet) -> Arrived {
        match self.links.vrf_of(packet.ifindex) {
            Some(vrf) => Arrived { packet: Packet { ifindex: vrf.index, ..*packet }, vrf: Some(vrf.name.clone()) },
            None => Arrived { packet: *packet, vrf: None },
        }
    }

    /// The UDP socket that is connected from where a datagram goes to where it comes from: the kernel gives it the datagram
    /// before it asks any rule.
    pub(super) fn connected(&self, packet: &Packet) -> Option<SocketState> {
        let same =
            |own: SocketAddr, other: SocketAddr| (own.ip().to_canonical(), own.port()) == (other.ip(), other.port());
        let all = self.receivers.sockets.connected();
        let its = all.iter().find(|it| {
            let ends = same(it.bound.addr, packet.local) && it.peer.is_some_and(|peer| same(peer, packet.remote));
            packet.protocol == Protocol::Udp && ends && it.receives_on(packet.ifindex)
        });
        its.map(|listed| self.receivers.sockets.describe_listed(listed))
    }

    /// Whether sockets that are bound to no interface receive packets of a VRF (`tcp_l3mdev_accept`).
    pub(super) fn unbound_accept_vrf(&self, protocol: Protocol) -> bool {
        let path = format!("/proc/sys/net/ipv4/{protocol}_l3mdev_accept");
        let read = self.location.netns().run(|| std::fs::read_to_string(path));
        read.ok().and_then(|text| text.ok()).is_some_and(|text| text.trim() == "1")
    }
}
