//! Clients of the host itself, whose address lies in a prefix of which all UDP ports go to a service: a resolver that asks
//! others, dig, and a client with an unconnected socket. The answers are theirs.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use inlet_testkit::{Proto, output, require_program};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::dns::{TEXT, ask_udp, assert_answers};
use crate::{Host, PATIENCE, at, conf};

/// Where the clients ask from, and the server that knows the answers.
const ENDS: [[&str; 2]; 2] = [["192.0.2.9", "198.51.100.53"], ["2001:db8::9", "2001:db8:2::53"]];
const RESOLVER: &str = "127.0.0.1:5300";
const QUESTIONS: usize = 20;

/// Asks from an unconnected socket, from one port and from others.
const PYTHON: &str = r#"
import socket, sys
own, server = sys.argv[1:]
question = bytes.fromhex("1e7a010000010000000000000377686f076578616d706c650000100001")
def ask(client):
    client.settimeout(20)
    client.sendto(question, (server, 53))
    answer, by = client.recvfrom(512)
    assert by[:2] == (server, 53) and b"\x04here" in answer, (answer, by)
def made():
    client = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((own, 0))
    return client
kept = made()
for _ in range(20):
    ask(kept)
    ask(made())
"#;

/// A host on which all UDP ports of both prefixes go to a service, and the socket of that.
fn host() -> Option<(Host, UdpSocket)> {
    let host = Host::up()?;
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        host.world.local(prefix).unwrap();
        host.ok(&["bind", "all", "udp", prefix, "any"]);
    }
    for address in ["198.51.100.53/32", "2001:db8:2::53/128", "2001:db8::9/128"] {
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        host.world.ip(&[&["addr", "add", address, "dev", "lo"], nodad].concat()).unwrap();
    }
    let taken = UdpSocket::bind("[::]:18200").unwrap();
    host.ok(&["register", "all", "--pid", &std::process::id().to_string(), "--listen", "udp:[::]:18200"]);
    Some((host, taken))
}

fn authoritative(dir: &TempDir) -> Daemon {
    let [v4, v6] = ENDS.map(|[_, server]| format!("--listen-address={server}"));
    let mut command = conf::dnsmasq(53, TEXT, &["--bind-interfaces", "--local=/example/", &v4, &v6]);
    let mut daemon = Daemon::start(dir.path(), &mut command);
    for [_, server] in ENDS {
        let server = SocketAddr::new(server.parse().unwrap(), 53).to_string();
        daemon.wait_listening(Proto::Udp, &server);
    }
    daemon
}

/// What asks others from an address, by sockets that are not connected, and keeps no answer.
fn resolver(dir: &TempDir, own: &str, server: &str) -> Daemon {
    let conf = format!(
        "server:\nusername: \"\"\nchroot: \"\"\ndirectory: \"{}\"\npidfile: \"\"\nuse-syslog: no\nmodule-config: \"iterator\"\n
        interface: 127.0.0.1@5300\noutgoing-interface: {own}\nudp-connect: no\nqname-minimisation: no\n
        cache-max-ttl: 0\nstub-zone:\nname: example.\nstub-addr: {server}\nremote-control:\ncontrol-enable: no\n",
        dir.path().display()
    );
    fs::write(dir.path().join("unbound.conf"), conf).unwrap();
    let mut command = Command::new("unbound");
    command.args(["-d", "-p", "-c"]).arg(dir.path().join("unbound.conf"));
    let mut daemon = Daemon::start(dir.path(), &mut command);
    daemon.wait_listening(Proto::Udp, RESOLVER);
    daemon
}

/// What a service got for the host's own clients: nothing. Then somebody asks at a port where no client waits.
fn assert_untouched(taken: &UdpSocket, own: &str) {
    taken.set_nonblocking(true).unwrap();
    assert!(taken.recv(&mut [0; 512]).is_err());
    taken.set_nonblocking(false).unwrap();
    taken.set_read_timeout(Some(PATIENCE)).unwrap();
    let stranger = UdpSocket::bind(if own.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
    stranger.send_to(b"stranger", SocketAddr::new(own.parse().unwrap(), 18201)).unwrap();
    let mut buffer = [0; 512];
    let length = taken.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"stranger");
}

#[test]
fn a_resolver_keeps_its_answers() {
    let Some((host, taken)) = host() else { return };
    if !require_program("unbound") || !require_program("dnsmasq") {
        return;
    }
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let _server = authoritative(&dirs[0]);
    for [own, server] in ENDS {
        // It asks nobody on the way to itself; what it asks others goes by the address.
        let resolver = resolver(&dirs[1], own, server);
        for _ in 0..QUESTIONS {
            assert_answers(&ask_udp(at(RESOLVER)), own);
        }
        assert_untouched(&taken, own);
        resolver.end(Signal::TERM);
    }
    let passed = host.json(&["status"])["client_answers"].as_u64().unwrap();
    assert!(passed >= 2 * QUESTIONS as u64, "{passed}");
    assert_eq!(host.json(&["explain", "udp", "192.0.2.9:40000"])["passes_if_answer"], true);
    assert!(
        host.ok(&["explain", "udp", "192.0.2.9:40000"])
            .contains("passes when it answers what an unconnected socket here")
    );
    host.ok(&["bind", "all", "udp", "192.0.2.9", "40000"]);
    assert_eq!(host.json(&["explain", "udp", "192.0.2.9:40000"])["passes_if_answer"], false);
}

#[test]
fn plain_clients_keep_their_answers() {
    let Some((_host, taken)) = host() else { return };
    if !require_program("dnsmasq") || !require_program("dig") || !require_program("python3") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let _server = authoritative(&dir);
    for [own, server] in ENDS {
        let said = output(Command::new("python3").args(["-c", PYTHON, own, server])).unwrap();
        assert!(said.status.success(), "{own}: {}", String::from_utf8_lossy(&said.stderr));
        let mut dig = Command::new("dig");
        dig.args(["-b", own, &format!("@{server}"), "who.example", "TXT", "+short", "+tries=1", "+timeout=20"]);
        let said = output(&mut dig).unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "\"here\"\n", "{own}");
        assert_untouched(&taken, own);
    }
}
