//! Servers over UDP, unmodified and bound to anything, asked at a prefix by strict clients: connected sockets, to which the
//! kernel gives answers from the place asked alone.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use inlet_testkit::{Proto, require_program};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::dns::{assert_answers, question};
use crate::{Host, LONG, at, wait_for_sockets};

/// The ports of rules: the one of the servers, another one, and a range. The last is where a client asks.
const PORTS: [(&str, u16); 3] = [("5300", 5300), ("53", 53), ("10000-19999", 12345)];
const V4: [&str; 2] = ["192.0.2.0/24", "192.0.2.7"];
const V6: [&str; 2] = ["2001:db8::/64", "[2001:db8::7]"];
/// Questions of each client.
const EXCHANGES: usize = 200;

const PYTHON: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 5300))
while True:
    text, client = server.recvfrom(65536)
    server.sendto(text, client)
"#;

const NODE: &str = r#"
const server = require("dgram").createSocket(process.argv[1].includes(":") ? "udp6" : "udp4");
server.on("message", (text, client) => server.send(text, client.port, client.address));
server.bind(5300, process.argv[1]);
"#;

/// What a server is bound to, and the targets that reach it.
const BOUND: [(&str, &[[&str; 2]]); 4] = [("127.0.0.1", &[V4]), ("0.0.0.0", &[V4]), ("::1", &[V6]), ("::", &[V4, V6])];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Echo,
    Dns,
}

/// A host on which the ports of the prefixes go to the service `web` over UDP.
fn host() -> Option<Host> {
    let host = Host::up()?;
    for [prefix, _] in [V4, V6] {
        host.world.local(prefix).unwrap();
        for (ports, _) in PORTS {
            host.ok(&["bind", "web", "udp", prefix, ports]);
        }
    }
    Some(host)
}

fn exchange(kind: Kind, target: &str, exchanges: usize) {
    let target: SocketAddr = at(target);
    let client = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    client.connect(target).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let mut buffer = [0; 2048];
    for number in 0..exchanges {
        let text = if kind == Kind::Dns { question() } else { format!("{number}").into_bytes() };
        client.send(&text).unwrap();
        let length = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{target}, {number}: {error}"));
        match kind {
            Kind::Dns => assert_answers(&buffer[..length], &target.to_string()),
            Kind::Echo => assert_eq!(buffer[..length], text, "{target}"),
        }
    }
}

/// A server bound to an address: it is registered, and answers at every port of every prefix.
fn answers(host: &Host, kind: Kind, bound: &str, targets: &[[&str; 2]], sockets: usize, command: &mut Command) {
    let dir = TempDir::new().unwrap();
    let mut daemon = Daemon::start(dir.path(), command);
    let listening = if bound.contains(':') { format!("[{bound}]:5300") } else { format!("{bound}:5300") };
    daemon.wait_listening(Proto::Udp, &listening);
    host.ok(&["register", "web", "--pid", &daemon.id().to_string(), "--listen", &format!("udp:{listening}")]);
    wait_for_sockets(host, sockets);
    for [_, target] in targets {
        for (_, port) in PORTS {
            exchange(kind, &format!("{target}:{port}"), EXCHANGES);
        }
    }
    daemon.end(Signal::KILL);
    wait_for_sockets(host, 0);
}

fn echoes(program: &str, flag: &str, script: &str) {
    let Some(host) = host() else { return };
    if !require_program(program) {
        return;
    }
    for (bound, targets) in BOUND {
        answers(&host, Kind::Echo, bound, targets, 1, Command::new(program).args([flag, script, bound]));
    }
}

#[test]
fn python_echo() {
    echoes("python3", "-c", PYTHON);
}

#[test]
fn node_echo() {
    echoes("node", "-e", NODE);
}

#[test]
fn dnsmasq() {
    let Some(host) = host() else { return };
    if !require_program("dnsmasq") {
        return;
    }
    let start = |args: &[&str]| {
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
        command.args(["--pid-file=", "--log-facility=-", "--port=5300", "--txt-record=who.example,here"]).args(args);
        command
    };
    answers(&host, Kind::Dns, "127.0.0.1", &[V4], 1, &mut start(&["--bind-interfaces", "--listen-address=127.0.0.1"]));
    answers(&host, Kind::Dns, "0.0.0.0", &[V4], 1, &mut start(&[]));
    answers(&host, Kind::Dns, "::", &[V6], 1, &mut start(&[]));
}

#[test]
fn unbound() {
    let Some(host) = host() else { return };
    if !require_program("unbound") {
        return;
    }
    let automatic = "port: 5300\ninterface-automatic: yes";
    let cases: [(&str, &[[&str; 2]], &str); 6] = [
        ("127.0.0.1", &[V4], "interface: 127.0.0.1@5300"),
        ("0.0.0.0", &[V4], "interface: 0.0.0.0@5300"),
        ("::1", &[V6], "interface: ::1@5300"),
        ("::", &[V6], "interface: ::0@5300"),
        ("0.0.0.0", &[V4], automatic),
        ("::", &[V6], automatic),
    ];
    for (bound, targets, interfaces) in cases {
        let dir = TempDir::new().unwrap();
        let conf = format!(
            "server:\nusername: \"\"\nchroot: \"\"\ndirectory: \"{}\"\npidfile: \"\"\nuse-syslog: no\n{interfaces}\n
            access-control: 0.0.0.0/0 allow\naccess-control: ::/0 allow\nlocal-zone: \".\" refuse\n
            local-data: \"who.example. 0 IN TXT here\"\nremote-control:\ncontrol-enable: no\n",
            dir.path().display()
        );
        fs::write(dir.path().join("unbound.conf"), conf).unwrap();
        let mut command = Command::new("unbound");
        command.args(["-d", "-p", "-c"]).arg(dir.path().join("unbound.conf"));
        answers(&host, Kind::Dns, bound, targets, 1, &mut command);
    }
}
