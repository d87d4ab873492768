//! The sockets of a namespace as the kernel lists them (sock_diag(7)), and the processes that have them open.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use inlet_core::Protocol;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

use super::endpoint::Endpoint;
use super::lanes::LiveSocket;
use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::snapshot::SocketState;

/// The states of include/net/tcp_states.h in which a socket receives through the hook.
const TCP_LISTEN: u8 = 10;
const UDP_UNCONNECTED: u8 = 7;

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its command, as /proc/PID/comm has it.
    pub command: String,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    endpoint: Endpoint,
    receiving: bool,
    inode: u32,
}

/// All TCP listeners and UDP sockets of a namespace, by cookie.
#[derive(Debug)]
pub(crate) struct Sockets(HashMap<u64, Listed>);

impl Sockets {
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let listed = netns.run(list_all)?.map_err(Error::os::<io::Error>("list", "sockets"))?;
        Ok(Self(listed))
    }

    /// What the kernel and /proc know of the live sockets of services. All at once, as looking through /proc is dear.
    pub(crate) fn describe(&self, services: &[Vec<LiveSocket>]) -> Vec<Vec<SocketState>> {
        let listed = |socket: &LiveSocket| self.0.get(&socket.cookie);
        let inodes: Vec<u32> = services.iter().flatten().filter_map(listed).map(|listed| listed.inode).collect();
        let owners = owners(&inodes);
        let state = |socket: &LiveSocket| SocketState {
            cookie: socket.cookie,
            local: listed(socket).map(|listed| listed.endpoint),
            receiving: listed(socket).is_none_or(|listed| listed.receiving),
            v4: socket.v4,
            v6: socket.v6,
            owners: listed(socket).and_then(|listed| owners.get(&listed.inode).cloned()).unwrap_or_default(),
        };
        services.iter().map(|live| live.iter().map(state).collect()).collect()
    }
}

fn list_all() -> io::Result<HashMap<u64, Listed>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut found = HashMap::new();
    for family in [AF_INET, AF_INET6] {
        for (number, protocol) in [(IPPROTO_TCP, Protocol::Tcp), (IPPROTO_UDP, Protocol::Udp)] {
            dump(&socket, family, number, |response| {
                let header = &response.header;
                let addr = SocketAddr::new(header.socket_id.source_address, header.socket_id.source_port);
                let receiving = header.state == if protocol == Protocol::Tcp { TCP_LISTEN } else { UDP_UNCONNECTED };
                let listed = Listed { endpoint: Endpoint::new(protocol, addr), receiving, inode: header.inode };
                found.insert(cookie(header.socket_id.cookie), listed);
            })?;
        }
    }
    Ok(found)
}

/// The cookie of a socket from two words of the machine, of which the lower one comes first on every machine.
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([e, f, g, h])) << 32 | u64::from(u32::from_ne_bytes([a, b, c, d]))
}

/// Asks for all sockets of a family and protocol that may be in the map of sockets.
fn dump(socket: &Socket, family: u8, protocol: u8, mut each: impl FnMut(&InetResponse)) -> io::Result<()> {
    let states = if protocol == IPPROTO_TCP { StateFlags::LISTEN } else { StateFlags::all() };
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let request = InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(&response),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            let len = (message.header.length as usize).next_multiple_of(4).min(rest.len());
            if len == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            rest = &rest[len..];
        }
    }
}

/// The processes that have these sockets open, as far as /proc shows them to us.
fn owners(inodes: &[u32]) -> HashMap<u32, Vec<Owner>> {
    let mut found: HashMap<u32, Vec<Owner>> = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    let wanted: HashMap<String, u32> = inodes.iter().map(|inode| (format!("socket:[{inode}]"), *inode)).collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())) {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        for inode in links.filter_map(|link| wanted.get(link.to_str()?).copied()) {
            let owners = found.entry(inode).or_default();
            if owners.last().is_none_or(|last| last.pid != pid) {
                let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                owners.push(Owner { pid, command: command.trim_end().to_owned() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lower_word_of_a_cookie_comes_first() {
        let words = [0x0123_4567_u32, 0x89ab_cdef].map(u32::to_ne_bytes);
        assert_eq!(super::cookie(words.concat().try_into().unwrap()), 0x89ab_cdef_0123_4567);
    }
}
