//! A hundred thousand questions over UDP, and each answer from the place that was asked: the clients are connected sockets.
//!
//! Between the server and its client is a router, whose interface to the client computes all checksums that are left to
//! it, and cuts what is to be cut. So the kernel of the client sees what a network would have, checks every checksum, and
//! drops what is wrong.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use inlet_testkit::{End, Namespace, checksum_offload, segment, veth};
use rustix::io::Errno;

use crate::{Host, PATIENCE, at, receive, wait_for_sockets};

const PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];
const RANGE: std::ops::RangeInclusive<u16> = 10_000..=19_999;
/// The server's own port, another one, and one of a range.
const PORTS: [u16; 3] = [5300, 53, 12_345];
/// What the server is bound to, and where clients ask it.
const BOUND: [[&str; 2]; 4] =
    [["127.0.0.1", "192.0.2.7"], ["0.0.0.0", "192.0.2.77"], ["[::1]", "[2001:db8::7]"], ["[::]", "[2001:db8::7:7]"]];
/// An Ethernet interface takes so much at once; the rest is sent in fragments.
const LARGE: usize = 6000;
const SEGMENT: u16 = 1000;

/// A server, its clients on the same host and behind a router, and how many questions were answered.
struct Network {
    host: Host,
    /// Held, so that it goes on.
    _router: Namespace,
    client: Namespace,
    answered: usize,
}

impl Network {
    fn new() -> Option<Self> {
        let host = Host::up()?;
        let (router, client) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let pair = |one: (&Namespace, &str, [&str; 2]), other: (&Namespace, &str, [&str; 2])| {
            let [one, other] =
                [&one, &other].map(|(namespace, name, addresses)| End { namespace, name, addresses: &addresses[..] });
            veth(one, other).unwrap();
        };
        let inner = (&*host.world, "eth0", ["10.9.0.1/24", "2001:db8:9::1/64"]);
        let outer = (&client, "eth0", ["10.8.0.1/24", "2001:db8:8::1/64"]);
        pair(inner, (&router, "inner", ["10.9.0.2/24", "2001:db8:9::2/64"]));
        pair(outer, (&router, "outer", ["10.8.0.2/24", "2001:db8:8::2/64"]));
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            router.sysctl(name, "1").unwrap();
        }
        checksum_offload(&router, "outer", false).unwrap();
        for (prefix, via) in PREFIXES.iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
            router.ip(&["route", "add", prefix, "via", via]).unwrap();
            host.world.local(prefix).unwrap();
            for ports in ["5300", "53", "10000-19999"] {
                host.ok(&["bind", "web", "udp", prefix, ports]);
            }
        }
        for [family, inner, outer] in [["-4", "10.9.0.2", "10.8.0.2"], ["-6", "2001:db8:9::2", "2001:db8:8::2"]] {
            host.world.ip(&[family, "route", "add", "default", "via", inner]).unwrap();
            client.ip(&[family, "route", "add", "default", "via", outer]).unwrap();
        }
        Some(Self { host, _router: router, client, answered: 0 })
    }

    /// A socket that is bound and has the ports of the rules.
    fn serve(&self, bound: &str) -> UdpSocket {
        // The one before is gone once no program that a neighbouring test starts holds a copy of it.
        wait_for_sockets(&self.host, 0);
        let listening = format!("{bound}:5300");
        let server = UdpSocket::bind(&listening).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let (pid, listen) = (std::process::id().to_string(), format!("udp:{listening}"));
        self.host.ok(&["register", "web", "--pid", &pid, "--listen", &listen]);
        server
    }

    /// A strict client, on the same host or behind the router.
    fn ask(&self, target: SocketAddr, outside: bool) -> UdpSocket {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = if outside { self.client.enter(|| UdpSocket::bind(any)) } else { UdpSocket::bind(any) };
        let client = client.unwrap();
        client.connect(target).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// So many questions, each with an answer of so many bytes, which may come as several datagrams.
    #[track_caller]
    fn exchange(&mut self, server: &UdpSocket, client: &UdpSocket, count: usize, bytes: impl Fn(usize) -> usize) {
        let (mut buffer, mut got) = ([0; 65_536], Vec::<u8>::new());
        for number in 0..count {
            let answer: Vec<u8> = (0..bytes(number)).map(|at| (at + number) as u8).collect();
            client.send(b"?").unwrap();
            let (_, from) = receive(server, &mut buffer).unwrap();
            server.send_to(&answer, from).unwrap();
            got.clear();
            while got.len() < answer.len() {
                let (length, _) = receive(client, &mut buffer).unwrap_or_else(|error| {
                    panic!("{:?}, {number}, {} bytes: {error}", client.peer_addr(), answer.len())
                });
                got.extend(&buffer[..length]);
            }
            assert!(got == answer, "{:?}, {number}", client.peer_addr());
            self.answered += 1;
        }
    }

    /// Sends of one datagram each, in all ways and from everywhere.
    fn plain(&mut self) {
        for [bound, target] in BOUND {
            let server = self.serve(bound);
            for port in PORTS {
                let target = at(&format!("{target}:{port}"));
                let client = self.ask(target, false);
                self.exchange(&server, &client, 1800, |number| 1 + number % 1400);
                for is_offloaded in [true, false] {
                    checksum_offload(&self.host.world, "eth0", is_offloaded).unwrap();
                    let client = self.ask(target, true);
                    self.exchange(&server, &client, 1800, |number| 1 + number % 1400);
                }
            }
        }
    }

    /// Answers that leave in fragments, and several at once (UDP_SEGMENT).
    fn large(&mut self) {
        for [bound, target] in [BOUND[1], BOUND[3]] {
            let server = self.serve(bound);
            for is_offloaded in [true, false] {
                checksum_offload(&self.host.world, "eth0", is_offloaded).unwrap();
                for port in PORTS {
                    let client = self.ask(at(&format!("{target}:{port}")), true);
                    self.exchange(&server, &client, 1000, |_| LARGE);
                    if !self.can_segment() {
                        println!("this kernel segments nothing whose checksums the interface does not compute");
                        continue;
                    }
                    segment(&server, SEGMENT).unwrap();
                    self.exchange(&server, &client, 1000, |number| LARGE - number % 2 * 500);
                    segment(&server, 0).unwrap();
                }
            }
        }
    }

    /// Whether the kernel takes a send of several datagrams at once through the interface as it is.
    fn can_segment(&self) -> bool {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        segment(&socket, SEGMENT).unwrap();
        match socket.send_to(&[0; 2000], "10.9.0.2:9") {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => false,
            sent => sent.unwrap() == 2000,
        }
    }

    /// One client, and each port of a range: it connects anew and keeps its own port.
    fn hop(&mut self) {
        for [bound, target] in [BOUND[1], BOUND[3]] {
            let server = self.serve(bound);
            let target = |port: u16| at(&format!("{target}:{port}"));
            let client = self.ask(target(*RANGE.start()), true);
            let own = client.local_addr().unwrap();
            for port in RANGE {
                client.connect(target(port)).unwrap();
                self.exchange(&server, &client, 1, |_| 4);
            }
            assert_eq!(client.local_addr().unwrap(), own);
        }
    }

    /// What the client's kernel dropped for its checksum.
    fn dropped(&self) -> Vec<String> {
        let [v4, v6] = ["snmp", "snmp6"]
            .map(|name| self.client.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{name}"))).unwrap());
        let udp: Vec<Vec<&str>> =
            v4.lines().filter(|line| line.starts_with("Udp: ")).map(|line| line.split(' ').collect()).collect();
        let column = udp[0].iter().position(|name| *name == "InCsumErrors").unwrap();
        let v6 = v6.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors")).unwrap();
        vec![udp[1][column].to_owned(), v6.trim().to_owned()]
    }
}

#[test]
fn a_hundred_thousand() {
    let began = Instant::now();
    let Some(mut network) = Network::new() else { return };
    network.plain();
    network.large();
    network.hop();
    assert_eq!(network.dropped(), ["0", "0"]);
    println!("{} exchanges in {:.1} s", network.answered, began.elapsed().as_secs_f64());
    assert!(network.answered >= 100_000, "{}", network.answered);
}
