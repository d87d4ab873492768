//! The connections of a namespace: who is at the other end.

use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::error::{Result, not_listed};
use crate::kernel::{Netlink, Netns};

/// The ends of all connections, TCP and UDP: the local one and the remote one.
pub(crate) fn peers(netns: &Netns) -> Result<Vec<(SocketAddr, SocketAddr)>> {
    netns.run(list)?.map_err(not_listed("connections"))
}

fn list() -> io::Result<Vec<(SocketAddr, SocketAddr)>> {
    let netlink = Netlink::connect(NETLINK_SOCK_DIAG)?;
    let mut found = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            let states = StateFlags::ESTABLISHED | StateFlags::SYN_SENT | StateFlags::SYN_RECV | StateFlags::CLOSE_WAIT;
            let (extensions, socket_id) = (ExtensionFlags::empty(), socket_id.clone());
            let request = InetRequest { family, protocol, extensions, states, socket_id };
            netlink.dump(SockDiagMessage::InetRequest(request), |answer| {
                if let SockDiagMessage::InetResponse(response) = answer {
                    let id = &response.header.socket_id;
                    let end = |addr: std::net::IpAddr, port| SocketAddr::new(addr.to_canonical(), port);
                    found.push((
                        end(id.source_address, id.source_port),
                        end(id.destination_address, id.destination_port),
                    ));
                }
            })?;
        }
    }
    Ok(found)
}
