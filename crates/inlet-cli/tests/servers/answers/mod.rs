//! Servers over UDP, unmodified and bound to anything, asked at a prefix by strict clients: connected sockets, to which the
//! kernel gives answers from the place asked alone. The clients ask over loopback and over a veth pair.

mod dns;
mod echo;
mod other;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use inlet_testkit::{Namespace, Proto};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, at, outside, receive, wait_for_sockets};

/// The ports of rules: the one of the servers, another one, and a range. The last is where a client asks.
const PORTS: [(&str, u16); 3] = [("5300", 5300), ("53", 53), ("10000-19999", 12345)];
const V4: [&str; 2] = ["192.0.2.0/24", "192.0.2.7"];
const V6: [&str; 2] = ["2001:db8::/64", "[2001:db8::7]"];
/// What reaches a server: a prefix, and an address of it.
type Targets = &'static [[&'static str; 2]];

/// Questions of each client.
const EXCHANGES: usize = 200;

/// What clients ask, and how they know the answer to it.
#[derive(Clone, Copy)]
struct Kind {
    question: fn(usize) -> Vec<u8>,
    check: fn(&[u8], &[u8], &str),
    exchanges: usize,
}

/// A server on the host, which the service `web` has ports of both prefixes for, and a client elsewhere.
struct Surroundings {
    host: Host,
    outside: Namespace,
}

/// One way to start a server.
struct Server<'a> {
    /// What it is bound to, at port 5300.
    bound: &'a str,
    /// What reaches it so.
    targets: Targets,
    /// How many sockets it has there.
    sockets: usize,
}

impl Surroundings {
    fn new() -> Option<Self> {
        let host = Host::up()?;
        let outside = outside(&host, [V4[0], V6[0]]);
        for [prefix, _] in [V4, V6] {
            for (ports, _) in PORTS {
                host.ok(&["bind", "web", "udp", prefix, ports]);
            }
        }
        Some(Self { host, outside })
    }

    /// A server bound to an address: it is registered, and answers at every port of every prefix.
    fn answers(&self, kind: Kind, server: &Server<'_>, start: impl FnOnce(&TempDir) -> Command) {
        let dir = TempDir::new().unwrap();
        let daemon = self.start(&dir, server, &mut start(&dir));
        for target in server.targets() {
            exchange(kind, target, &daemon);
            self.outside.enter(|| exchange(kind, target, &daemon));
        }
        daemon.end(Signal::KILL);
        wait_for_sockets(&self.host, 0);
    }

    fn start(&self, dir: &TempDir, server: &Server<'_>, command: &mut Command) -> Daemon {
        let mut daemon = Daemon::start(dir.path(), command);
        let is_v6 = server.bound.contains(':');
        let listening = if is_v6 { format!("[{}]:5300", server.bound) } else { format!("{}:5300", server.bound) };
        daemon.wait_listening(Proto::Udp, &listening);
        let (pid, listen) = (daemon.id().to_string(), format!("udp:{listening}"));
        self.host.ok(&["register", "web", "--pid", &pid, "--listen", &listen]);
        wait_for_sockets(&self.host, server.sockets);
        daemon
    }
}

impl Server<'_> {
    /// Every port of every prefix that reaches it.
    fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        let targets = self.targets.iter();
        targets.flat_map(|[_, target]| PORTS.map(|(_, port)| at(&format!("{target}:{port}"))))
    }
}

fn exchange(kind: Kind, target: SocketAddr, daemon: &Daemon) {
    let client = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    client.connect(target).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2048];
    for number in 0..kind.exchanges {
        let text = (kind.question)(number);
        client.send(&text).unwrap();
        let answer = receive(&client, &mut buffer);
        let (length, _) = answer.unwrap_or_else(|error| panic!("{target}, {number}: {error}: {}", daemon.log()));
        (kind.check)(&text, &buffer[..length], &target.to_string());
    }
}
