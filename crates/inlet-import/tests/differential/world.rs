//! A host behind a firewall, two clients on two interfaces, and sockets that say who got a packet.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inlet_core::Protocol;
use inlet_import::Listener;
use inlet_testkit::{End, Listen, Namespace, Netns, veth};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, getpeername, getsockname,
    recv, send, socket_with,
};

/// The ports that clients ask.
pub(crate) const PORTS: [u16; 8] = [22, 53, 80, 443, 5000, 5050, 8080, 9999];
/// The ports of transparent sockets, at 127.0.0.1 and ::1.
pub(crate) const PROXIES: [u16; 3] = [9000, 9001, 9002];
/// Sources by client, IPv4 and IPv6.
pub(crate) const SOURCES: [[&[&str]; 2]; 2] = [
    [&["192.0.2.2", "192.0.2.66", "192.0.2.130"], &["2001:db8:1::2", "2001:db8:1::42"]],
    [&["198.18.0.2"], &["2001:db8:2::2"]],
];
/// Local addresses that clients ask.
pub(crate) const LOCALS: [&[&str]; 2] = [
    &["203.0.113.1", "203.0.113.5", "203.0.113.77", "203.0.113.130", "203.0.113.200", "198.51.100.7", "198.51.100.99"],
    &["2001:db8:7::1", "2001:db8:7::5", "2001:db8:7:1::1", "2001:db8:7:2::9"],
];
/// Addresses with a socket of their own at port 5050.
pub(crate) const SPECIAL: [&str; 2] = ["203.0.113.5", "2001:db8:7::5"];
pub(crate) const SPECIAL_PORT: u16 = 5050;

/// The names of the interfaces of the host, by client.
pub(crate) const IFACES: [&str; 2] = ["v1", "w1"];

/// A packet that opens a connection, or a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) protocol: Protocol,
    pub(crate) client: usize,
    pub(crate) source: IpAddr,
    pub(crate) to: SocketAddr,
}

pub(crate) struct World {
    /// The thread stays in it.
    _host: Netns,
    clients: [Namespace; 2],
    sockets: Vec<(String, Protocol, OwnedFd)>,
    pub(crate) listeners: Vec<Listener>,
    /// How often was asked; datagrams tell it, so that late ones count for nothing.
    asked: Cell<u32>,
}

/// How long packets are waited for that somebody should get.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it must be quiet when all have arrived that should.
const QUIET: Duration = Duration::from_millis(40);

impl World {
    pub(crate) fn new() -> Self {
        let host = Netns::new().unwrap();
        let clients = [Netns::unentered().unwrap(), Netns::unentered().unwrap()];
        let own = [["192.0.2.241/24", "2001:db8:1::f1/64"], ["198.18.0.241/24", "2001:db8:2::f1/64"]];
        for (number, client) in clients.iter().enumerate() {
            let theirs: Vec<String> = SOURCES[number]
                .iter()
                .flat_map(|all| all.iter())
                .map(|addr| format!("{addr}/{}", if addr.contains(':') { 64 } else { 24 }))
                .collect();
            let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
            let end = |namespace, name, addresses| End { namespace, name, addresses };
            veth(end(&host, IFACES[number], &own[number]), end(client, "eth0", &theirs)).unwrap();
            let gateways = own[number].map(|addr| addr.split('/').next().unwrap());
            client.ip(&["route", "add", "default", "via", gateways[0]]).unwrap();
            client.ip(&["-6", "route", "add", "default", "via", gateways[1]]).unwrap();
        }
        for prefix in ["203.0.113.0/24", "198.51.100.0/24", "2001:db8:7::/48"] {
            host.local(prefix).unwrap();
        }
        let mut world = Self { _host: host, clients, sockets: Vec::new(), listeners: Vec::new(), asked: Cell::new(0) };
        world.listen();
        world
    }

    fn listen(&mut self) {
        for port in PROXIES {
            for addr in ["127.0.0.1", "::1"] {
                self.socket(&format!("tproxy-{port}"), addr, port, true);
            }
        }
        for port in PORTS {
            for addr in ["0.0.0.0", "::"] {
                self.socket("ordinary", addr, port, false);
            }
        }
        for addr in SPECIAL {
            self.socket("special", addr, SPECIAL_PORT, false);
        }
    }

    fn socket(&mut self, name: &str, addr: &str, port: u16, transparent: bool) {
        let addr: IpAddr = addr.parse().unwrap();
        // Those of one address and of all addresses may share a port so.
        let how = Listen::new().v6only().freebind().reuseport();
        let how = if transparent { how.transparent() } else { how };
        let at = SocketAddr::new(addr, port);
        for (protocol, socket) in [(Protocol::Tcp, how.tcp(at)), (Protocol::Udp, how.udp(at))] {
            self.sockets.push((name.to_owned(), protocol, socket.unwrap()));
            let v6only = addr.is_ipv6();
            let transparent = Some(transparent);
            self.listeners.push(Listener { protocol, addr, port, v6only, transparent, program: None });
        }
    }

    /// Runs a command line of the firewall with this input.
    pub(crate) fn run(&self, line: &str, input: &str) -> Result<String, String> {
        use std::io::Write;
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The thread is in the namespace, and so are the programs that it starts.
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).map_err(|error| error.to_string())?;
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Sends all packets; who got each. Those for which nobody is expected go first: what comes later has passed them
    /// by.
    pub(crate) fn ask(&self, probes: &[Probe], somebody: &[bool]) -> Vec<Option<String>> {
        let mut asked = Asked {
            got: vec![None; probes.len()],
            refused: vec![false; probes.len()],
            by_peer: HashMap::new(),
            open: Vec::new(),
        };
        self.asked.set(self.asked.get() + 1);
        for round in [false, true] {
            for (number, probe) in probes.iter().enumerate().filter(|(number, _)| somebody[*number] == round) {
                asked.send(&self.clients[probe.client], self.tag(number), number, probe);
            }
        }
        let start = Instant::now();
        let mut last = start;
        loop {
            let open = (0..probes.len()).filter(|number| asked.got[*number].is_none() && !asked.refused[*number]);
            let (waited, unsure) = open.fold((0, 0), |(waited, unsure), number| match somebody[number] {
                true => (waited + 1, unsure),
                false => (waited, unsure + 1),
            });
            let is_quiet = last.elapsed() > QUIET;
            if waited + unsure == 0 || start.elapsed() > PATIENCE || is_quiet && waited == 0 {
                break;
            }
            if self.receive(&mut asked) {
                last = Instant::now();
            }
        }
        asked.got
    }

    /// The text of a datagram.
    fn tag(&self, number: usize) -> [u8; 8] {
        (u64::from(self.asked.get()) << 8 | number as u64).to_be_bytes()
    }

    /// Takes what has come; whether anything has.
    fn receive(&self, asked: &mut Asked) -> bool {
        let mut fds: Vec<PollFd<'_>> =
            self.sockets.iter().map(|(_, _, socket)| PollFd::new(socket, PollFlags::IN)).collect();
        fds.extend(asked.open.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::ERR)));
        let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        if poll(&mut fds, Some(&wait)).unwrap() == 0 {
            return false;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for ((name, protocol, socket), _) in self.sockets.iter().zip(&ready).filter(|(_, ready)| **ready) {
            match protocol {
                Protocol::Tcp => {
                    while let Ok(connection) = accept_with(socket, SocketFlags::CLOEXEC) {
                        // Nothing of it stays, not even for a while, as its ports may come again.
                        rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
                        let Ok(peer) = getpeername(&connection) else { continue };
                        let peer: Option<SocketAddr> = peer.and_then(|peer| peer.try_into().ok());
                        if let Some(number) = peer.and_then(|peer| asked.by_peer.get(&peer)) {
                            asked.got[*number] = Some(name.clone());
                        }
                    }
                }
                Protocol::Udp => {
                    let mut text = [0; 8];
                    while let Ok((_, 8)) = recv(socket, &mut text, RecvFlags::DONTWAIT) {
                        let number = text[7] as usize;
                        if text == self.tag(number) {
                            asked.got[number] = Some(name.clone());
                        }
                    }
                }
            }
        }
        let refused = ready[self.sockets.len()..].iter().enumerate().filter(|(_, ready)| **ready);
        let refused: Vec<usize> = refused.map(|(at, _)| at).collect();
        for at in refused.into_iter().rev() {
            let (number, _) = asked.open.swap_remove(at);
            asked.refused[number] = asked.got[number].is_none();
        }
        true
    }
}

/// Packets on their way.
struct Asked {
    got: Vec<Option<String>>,
    refused: Vec<bool>,
    by_peer: HashMap<SocketAddr, usize>,
    open: Vec<(usize, OwnedFd)>,
}

impl Asked {
    fn send(&mut self, client: &Namespace, tag: [u8; 8], number: usize, probe: &Probe) {
        let family = if probe.source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = if probe.protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = client.enter(|| socket_with(family, kind, flags, None)).unwrap();
        bind(&socket, &SocketAddr::new(probe.source, 0)).unwrap();
        // A connection is not there at once; a refusal comes as an error of the socket.
        let _ = connect(&socket, &probe.to);
        if probe.protocol == Protocol::Udp {
            send(socket.as_fd(), &tag, SendFlags::empty()).unwrap();
        }
        let own: SocketAddr = getsockname(&socket).unwrap().try_into().unwrap();
        self.by_peer.insert(own, number);
        self.open.push((number, socket));
    }
}
