//! The sockets of a namespace as the kernel lists them (sock_diag(7)).

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;

use inlet_core::{Bound, Endpoint, Packet, PortRange, Protocol, Rank};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::lanes::LiveSocket;
use super::live::{Device, SocketState};
use super::owner::{Owners, owners};
use crate::error::{Result, not_listed};
use crate::kernel::{Links, Netlink, Netns};
use crate::state::{Maps, OwnPorts};

/// The states of include/net/tcp_states.h in which a socket receives through the hook.
const TCP_LISTEN: u8 = 10;
const UDP_UNCONNECTED: u8 = 7;
const UDP_CONNECTED: u8 = 1;

/// `INET_DIAG_CGROUP_ID`: the number of the control group in which the socket was made (Linux 5.8).
const CGROUP_ID: u16 = 21;

/// `INET_DIAG_ULP_INFO`: what a TCP socket is the lower part of. Of an MPTCP listener it says so by name.
const ULP_INFO: u16 = 19;

/// `INET_DIAG_SOCKOPT`: options of a socket, one bit each (linux/inet_diag.h).
const SOCKET_OPTIONS: u16 = 22;
const TRANSPARENT: u8 = 1 << 5;

/// A socket that the kernel lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub(crate) cookie: u64,
    /// What its program asked for.
    pub(crate) bound: Bound,
    /// The port that it is in truth bound to, when its program asked for another one and has own binds: nothing but rules
    /// leads there.
    pub(crate) own_port: Option<u16>,
    /// Whether it can receive what no connected socket does.
    pub(crate) receiving: bool,
    /// Whether it has `IP_TRANSPARENT`, on kernels that say so.
    pub(crate) transparent: Option<bool>,
    /// Whether it is the TCP half of an MPTCP listener.
    pub(crate) mptcp: bool,
    /// Whom it is connected to, of a UDP socket: it gets the datagrams of its peer before any rule is asked, and no other.
    pub(crate) peer: Option<SocketAddr>,
    /// The user who made it.
    pub(crate) uid: u32,
    /// The control group in which it was made.
    pub(crate) cgroup: u64,
    /// Connections that the program has not accepted yet, of a TCP listener.
    pub(crate) queue: u32,
    inode: u32,
}

impl Listed {
    /// It as a socket of a service would be: for the packets of which families.
    pub(crate) fn live(&self) -> LiveSocket {
        let locals = self.bound.locals();
        let (v4, v6) = (locals.iter().any(|local| !local.is_v6()), locals.iter().any(|local| local.is_v6()));
        LiveSocket { cookie: self.cookie, v4, v6 }
    }

    /// Whether it is a UDP socket at one of the ports at which answers to clients pass.
    pub(crate) fn is_client(&self, of_clients: &[PortRange]) -> bool {
        let port = self.bound.addr.port();
        self.bound.protocol == Protocol::Udp && of_clients.iter().any(|ports| ports.contains(port))
    }

    /// Whether rules can give it packets that come in on an interface.
    pub(crate) fn receives_on(&self, ifindex: u32) -> bool {
        self.bound.device == 0 || self.bound.device == ifindex
    }

    /// The number of its inode, by which a descriptor of a process is known.
    pub(crate) fn inode(&self) -> u32 {
        self.inode
    }
}

/// All TCP listeners and UDP sockets of a namespace, by cookie.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(super) listed: HashMap<u64, Listed>,
    /// Those that can receive.
    by_port: BTreeMap<(Protocol, u16), Vec<Listed>>,
    owners: OnceCell<Owners>,
    /// The interfaces, when some sockets are bound to one.
    links: Links,
    /// The ports for own binds of the instance, when there is one.
    pub(super) own_range: Option<PortRange>,
}

impl Sockets {
    /// Lists those of a namespace without an instance.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        Self::with(netns, None)
    }

    /// Lists those of the namespace of an instance, whose programs may have own binds.
    pub(crate) fn of_instance(netns: &Netns, maps: &Maps) -> Result<Self> {
        Self::with(netns, maps.own_ports.as_ref())
    }

    fn with(netns: &Netns, own_ports: Option<&OwnPorts>) -> Result<Self> {
        let mut listed = netns.run(list_all)?.map_err(not_listed("sockets"))?;
        for socket in listed.values_mut() {
            let port = socket.bound.addr.port();
            if let Some(asked) = own_ports.map_or(Ok(None), |own_ports| own_ports.asked(port))? {
                socket.bound.addr.set_port(asked);
                socket.own_port = Some(port);
            }
        }
        let mut by_port: BTreeMap<_, Vec<Listed>> = BTreeMap::new();
        for socket in listed.values().filter(|listed| listed.receiving) {
            by_port.entry((socket.bound.protocol, socket.bound.addr.port())).or_default().push(*socket);
        }
        by_port.values_mut().for_each(|at_port| at_port.sort_by_key(|listed| (listed.bound, listed.cookie)));
        let links = match listed.values().any(|it| it.bound.device != 0) {
            true => Links::of(netns)?,
            false => Links::default(),
        };
        let own_range = own_ports.map(OwnPorts::range);
        Ok(Self { listed, by_port, owners: OnceCell::new(), links, own_range })
    }

    /// A socket by its cookie.
    pub(crate) fn get(&self, cookie: u64) -> Option<Listed> {
        self.listed.get(&cookie).copied()
    }

    /// UDP sockets that are connected, in order of their address.
    pub(crate) fn connected(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.listed.values().filter(|listed| listed.peer.is_some()).copied().collect();
        all.sort_by_key(|listed| (listed.bound, listed.cookie));
        all
    }

    /// Those that can receive, in order of protocol and address.
    pub(crate) fn receiving(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.listed.values().filter(|listed| listed.receiving).copied().collect();
        all.sort_by_key(|listed| (listed.bound, listed.cookie));
        all
    }

    /// Those that receive on some of these ports by their own address.
    pub(crate) fn at(&self, protocol: Protocol, first: u16, last: u16) -> impl Iterator<Item = &Listed> {
        self.asking_for(protocol, first, last).filter(|listed| listed.own_port.is_none())
    }

    /// Those whose programs asked for some of these ports.
    pub(crate) fn asking_for(&self, protocol: Protocol, first: u16, last: u16) -> impl Iterator<Item = &Listed> {
        self.by_port.range((protocol, first)..=(protocol, last)).flat_map(|(_, listed)| listed)
    }

    /// The sockets among which the kernel's ordinary lookup chooses for a packet: one, those of a SO_REUSEPORT group, or
    /// those of groups of which nobody can read which is first on the kernel's list.
    pub(crate) fn ordinary(&self, packet: &Packet) -> Vec<Listed> {
        self.ordinary_by(packet, |bound| bound.rank(packet))
    }

    /// The same for a packet of a VRF that came in on a member of it. Sockets that are bound to that member receive it too
    /// (`inet_bound_dev_eq`), and those that are bound to no interface only when a sysctl says so.
    pub(crate) fn ordinary_in_vrf(&self, packet: &Packet, member: u32, others_accept: bool) -> Vec<Listed> {
        self.ordinary_by(packet, |bound| match bound.device {
            0 if !others_accept => None,
            device if device == member => Bound { device: packet.ifindex, ..*bound }.rank(packet),
            _ => bound.rank(packet),
        })
    }

    fn ordinary_by(&self, packet: &Packet, rank: impl Fn(&Bound) -> Option<Rank>) -> Vec<Listed> {
        let port = packet.local.port();
        let at_port = self.at(packet.protocol, port, port);
        let fit: Vec<(Rank, Listed)> = at_port.filter_map(|listed| Some((rank(&listed.bound)?, *listed))).collect();
        let may = |own: &Rank| fit.iter().all(|(other, _)| other <= own || own.may_precede(other));
        fit.iter().filter(|(own, _)| may(own)).map(|(_, listed)| *listed).collect()
    }

    /// What the kernel and /proc know of a socket that the kernel lists.
    pub(crate) fn describe_listed(&self, listed: &Listed) -> SocketState {
        self.describe(&listed.live())
    }

    /// What the kernel and /proc know of a live socket of a service.
    pub(crate) fn describe(&self, socket: &LiveSocket) -> SocketState {
        let listed = self.listed.get(&socket.cookie);
        SocketState {
            cookie: socket.cookie,
            local: listed.map(|listed| Endpoint::new(listed.bound.protocol, listed.bound.addr)),
            own_port: listed.and_then(|listed| listed.own_port),
            receiving: listed.is_none_or(|listed| listed.receiving),
            peer: listed.and_then(|listed| listed.peer),
            v4: socket.v4,
            v6: socket.v6,
            device: listed
                .map(|listed| listed.bound.device)
                .filter(|index| *index != 0)
                .map(|index| self.device(index)),
            user: listed.map(|listed| listed.uid),
            owners: listed.and_then(|listed| self.owners().get(&listed.inode).cloned()).unwrap_or_default(),
        }
    }

    /// Where a socket is bound, with its interface.
    pub(crate) fn endpoint(&self, bound: &Bound) -> Endpoint {
        Endpoint::new(bound.protocol, bound.addr).on(self.links.known(bound.device))
    }

    /// What is known of an interface that a socket is bound to.
    pub(crate) fn device(&self, index: u32) -> Device {
        let vrf = self.links.vrf_of(index).map(|vrf| vrf.name.clone());
        Device { index, name: self.links.name(index), vrf }
    }

    /// Who has which socket open: looked up once, for all of them.
    fn owners(&self) -> &Owners {
        self.owners.get_or_init(|| owners(self.listed.values().map(|listed| listed.inode)))
    }
}

fn list_all() -> io::Result<HashMap<u64, Listed>> {
    let netlink = Netlink::connect(NETLINK_SOCK_DIAG)?;
    let mut found = HashMap::new();
    for family in [AF_INET, AF_INET6] {
        for (number, protocol) in [(IPPROTO_TCP, Protocol::Tcp), (IPPROTO_UDP, Protocol::Udp)] {
            netlink.dump(SockDiagMessage::InetRequest(request(family, number)), |answer| {
                if let SockDiagMessage::InetResponse(response) = answer {
                    let listed = listed(protocol, &response);
                    found.insert(listed.cookie, listed);
                }
            })?;
        }
    }
    Ok(found)
}

fn listed(protocol: Protocol, response: &InetResponse) -> Listed {
    let header = &response.header;
    let id = &header.socket_id;
    let v6only = response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
    let value = |kind| response.nlas.iter().find_map(|nla| value_of(nla, kind));
    let cgroup = value(CGROUP_ID).and_then(|value| value.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let addr = SocketAddr::new(id.source_address, id.source_port);
    Listed {
        cookie: cookie(id.cookie),
        bound: Bound { protocol, addr, v6only, device: id.interface_id },
        own_port: None,
        receiving: header.state == if protocol == Protocol::Tcp { TCP_LISTEN } else { UDP_UNCONNECTED },
        transparent: value(SOCKET_OPTIONS).and_then(|options| Some(options.first()? & TRANSPARENT != 0)),
        mptcp: value(ULP_INFO).is_some_and(|value| value.windows(5).any(|word| word == b"mptcp")),
        peer: (protocol == Protocol::Udp && header.state == UDP_CONNECTED)
            .then(|| SocketAddr::new(id.destination_address.to_canonical(), id.destination_port)),
        uid: header.uid,
        cgroup,
        queue: header.recv_queue,
        inode: header.inode,
    }
}

/// The value of an attribute that the library of messages does not know, when it is of this kind.
fn value_of(nla: &Nla, kind: u16) -> Option<Vec<u8>> {
    use netlink_packet_core::Nla as _;
    let Nla::Other(other) = nla else { return None };
    let mut value = vec![0; other.value_len()];
    other.emit_value(&mut value);
    (other.kind() == kind).then_some(value)
}

/// The cookie of a socket from two words of the machine, of which the lower one comes first on every machine.
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([e, f, g, h])) << 32 | u64::from(u32::from_ne_bytes([a, b, c, d]))
}

/// All sockets of a family and protocol that may be in the map of sockets.
fn request(family: u8, protocol: u8) -> InetRequest {
    let states = if protocol == IPPROTO_TCP { StateFlags::LISTEN } else { StateFlags::all() };
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    // What a TCP socket is the lower part of is told only beside its state.
    let extensions = if protocol == IPPROTO_TCP { ExtensionFlags::INFO } else { ExtensionFlags::empty() };
    InetRequest { family, protocol, extensions, states, socket_id }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lower_word_of_a_cookie_comes_first() {
        let words = [0x0123_4567_u32, 0x89ab_cdef].map(u32::to_ne_bytes);
        assert_eq!(super::cookie(words.concat().try_into().unwrap()), 0x89ab_cdef_0123_4567);
    }
}
