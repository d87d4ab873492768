//! Own binds: servers that bind the same address and port side by side, unchanged and without the right to bind low ports.
//! Each gets what the rules of its service say, and nothing else reaches it.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use inlet_testkit::{Caps, Cgroup, Program, limit_caps, output, require_program};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, at, wait_until};

/// The ports that programs get here.
pub(crate) const RANGE: std::ops::RangeInclusive<u16> = 21_000..=21_099;

/// A server of one port for IPv4 and IPv6, TCP and UDP, as games have it. It answers with its name and the port that it
/// believes to have, and says on which it is bound. `WORKERS` of its TCP sockets share the port.
const GAME: &str = r#"
import socket, sys, threading
name, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def bound(family, kind, address):
    s = socket.socket(family, kind)
    if workers > 1: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, kind == socket.SOCK_DGRAM)
    s.bind((address, port))
    return s
def tcp(s, worker):
    while True:
        c, _ = s.accept()
        c.sendall(f"{name} {worker} {s.getsockname()[1]} {c.getsockname()[1]}".encode())
        c.close()
def udp(s):
    while True:
        data, peer = s.recvfrom(2048)
        s.sendto(f"{name} 0 {s.getsockname()[1]} {port}".encode(), peer)
for worker in range(workers):
    s = bound(socket.AF_INET6, socket.SOCK_STREAM, "::")
    s.listen(64)
    threading.Thread(target=tcp, args=(s, worker)).start()
for family, address in [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]:
    threading.Thread(target=udp, args=(bound(family, socket.SOCK_DGRAM, address),)).start()
print("ready", flush=True)
"#;

pub(crate) fn up() -> Option<Host> {
    let host = Host::new()?;
    host.ok(&["up", "--own-ports", &format!("{}-{}", RANGE.start(), RANGE.end())]);
    host.world.local("192.0.2.0/24").unwrap();
    host.world.local("2001:db8::/64").unwrap();
    Some(host)
}

/// The path of a control group for the command line.
fn path(cgroup: &Cgroup) -> String {
    format!("/{}", cgroup.path().file_name().unwrap().to_str().unwrap())
}

pub(crate) fn watch(host: &Host) -> Program {
    let watching = Program::start(host.command(&["watch"]).stdout(Stdio::null())).unwrap();
    wait_until("the watcher", || host.json(&["status"])["watched"] == true);
    watching
}

/// A service whose programs are in the control group, with rules for one address of each family.
pub(crate) fn serve(host: &Host, service: &str, cgroup: &Cgroup, listen: &[&str], number: u8, ports: &str) {
    let path = path(cgroup);
    let mut set = vec!["service", "set", service, "--cgroup", &path, "--own-binds"];
    set.extend(listen.iter().flat_map(|listen| ["--listen", *listen]));
    host.run(&set);
    for prefix in [format!("192.0.2.{number}/32"), format!("2001:db8::{number}/128")] {
        for protocol in ["tcp", "udp"] {
            host.run(&["bind", service, protocol, &prefix, ports]);
        }
    }
}

pub(crate) fn wait_for(host: &Host, service: &str, count: usize) {
    wait_until(&format!("{count} sockets of {service}"), || {
        let services = host.json(&["services"]);
        let found = services.as_array().unwrap().iter().find(|it| it["name"] == service).unwrap();
        found["sockets"].as_array().unwrap().len() == count
    });
}

fn game(dir: &TempDir, cgroup: Cgroup, name: &str, port: u16, workers: usize) -> Daemon {
    let mut command = Command::new("python3");
    command.args(["-c", GAME, name, &port.to_string(), &workers.to_string()]);
    limit_caps(&mut command, Caps::empty());
    Daemon::start_in(cgroup, dir.path(), &mut command)
}

/// What a server sends on its own when somebody connects: its name, its worker, the ports of its socket and of the connection.
fn said_tcp(target: &str) -> String {
    let mut client = TcpStream::connect_timeout(&at(target), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said
}

/// What it answers from the address and port asked alone.
fn said_udp(target: &str) -> String {
    let target = at(target);
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(target).unwrap();
    socket.send(b"?").unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// The ports at which the kernel has sockets that receive, as ss(8) lists them.
pub(crate) fn bound_ports() -> Vec<u16> {
    let listed = output(Command::new("ss").args(["-H", "-l", "-t", "-u", "-n"])).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let ports = listed.lines().filter_map(|line| line.split_whitespace().nth(4)?.rsplit(':').next()?.parse().ok());
    let mut ports: Vec<u16> = ports.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Nobody reaches a port of its own, whatever the address, also not from the host itself.
#[track_caller]
pub(crate) fn assert_closed(ports: &[u16]) {
    for port in ports {
        for address in ["127.0.0.1", "192.0.2.1", "192.0.2.200", "[::1]", "[2001:db8::1]"] {
            let target: SocketAddr = format!("{address}:{port}").parse().unwrap();
            let tcp = TcpStream::connect_timeout(&target, PATIENCE).map_err(|error| error.kind());
            assert_eq!(tcp.err(), Some(ErrorKind::ConnectionRefused), "tcp {target}");
            let udp = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            udp.set_read_timeout(Some(PATIENCE)).unwrap();
            udp.connect(target).unwrap();
            udp.send(b"?").unwrap();
            let got = udp.recv(&mut [0; 16]).map_err(|error| error.kind());
            assert_eq!(got, Err(ErrorKind::ConnectionRefused), "udp {target}");
        }
    }
}

#[test]
fn three_servers_at_one_port_of_all_addresses() {
    let Some(host) = up() else { return };
    if !require_program("python3") || !require_program("ss") {
        return;
    }
    // A low one, which these programs have no right to.
    let port = 443;
    let _watching = watch(&host);
    let mut servers = Vec::new();
    for number in 1..=3 {
        let (service, cgroup, dir) = (format!("game{number}"), Cgroup::new().unwrap(), TempDir::new().unwrap());
        serve(&host, &service, &cgroup, &[], number, &port.to_string());
        servers.push((game(&dir, cgroup, &service, port, 1), dir));
        wait_for(&host, &service, 3);
    }
    for round in 0..20 {
        for number in 1..=3 {
            let whole = format!("game{number} 0 {port} {port}");
            for target in [format!("192.0.2.{number}:{port}"), format!("[2001:db8::{number}]:{port}")] {
                assert_eq!(said_tcp(&target), whole, "{round} tcp {target}");
                assert_eq!(said_udp(&target), whole, "{round} udp {target}");
            }
        }
    }
    let ports = bound_ports();
    assert_eq!(ports.len(), 3, "one for each service: {ports:?}");
    assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
    assert_closed(&ports);
    // What was asked for at an address that no rule gives them is nobody's.
    let other = TcpStream::connect_timeout(&at(&format!("192.0.2.9:{port}")), PATIENCE).map_err(|error| error.kind());
    assert_eq!(other.err(), Some(ErrorKind::ConnectionRefused));
    let listeners = host.json(&["listeners"]);
    let listeners = listeners["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 9, "{listeners:?}");
    for listener in listeners {
        let local = listener["local"].as_str().unwrap();
        assert!(local == format!("[::]:{port}") || local == format!("0.0.0.0:{port}"), "{listener}");
        assert!(RANGE.contains(&(listener["own_port"].as_u64().unwrap() as u16)), "{listener}");
        assert_eq!(listener["receives"].as_array().unwrap().len(), 0, "{listener}");
    }
    let refused = host.json(&["explain", "tcp", &format!("192.0.2.1:{}", ports[0])]);
    assert_eq!(refused["outcome"], "refuse", "{refused}");
    // Others bind the port itself as ever, and not one of the range.
    let outside = TcpListener::bind(("0.0.0.0", 8443)).unwrap();
    assert_eq!(outside.local_addr().unwrap().port(), 8443);
    let in_range = TcpListener::bind(("0.0.0.0", *RANGE.end())).map_err(|error| error.kind());
    assert_eq!(in_range.err(), Some(ErrorKind::AddrInUse));
    // The file says it, and says it again.
    let file = host.ok(&["export", "--toml"]);
    assert!(file.contains("binds = \"own\""), "{file}");
    let ran = host.apply(&file);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("no change"), "{ran:?}");
    host.ok(&["down"]);
    TcpListener::bind(("0.0.0.0", *RANGE.end())).unwrap();
    drop(servers);
}

/// Within one service all is as ever: workers share a port by SO_REUSEPORT, others find it in use.
#[test]
fn workers_of_one_service() {
    let Some(host) = up() else { return };
    if !require_program("python3") {
        return;
    }
    let (cgroup, dir) = (Cgroup::new().unwrap(), TempDir::new().unwrap());
    let port = 8443;
    serve(&host, "web", &cgroup, &["tcp:*:8443"], 1, "8443");
    let bind = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 8443)); print(s.getsockname()[1])";
    let mut second = Command::new("python3");
    second.args(["-c", bind]);
    cgroup.contain(&mut second).unwrap();
    let said = output(&mut second).unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "8443", "{said:?}");
    let mut third = Command::new("python3");
    third.args(["-c", bind]);
    cgroup.contain(&mut third).unwrap();
    // Its UDP sockets, which are not described, are at the port itself.
    let _server = game(&dir, cgroup, "web", port, 4);
    wait_for(&host, "web", 4);
    let mut workers: Vec<String> = (0..200).map(|_| said_tcp("192.0.2.1:8443")).collect();
    workers.sort();
    workers.dedup();
    let expected: Vec<String> = (0..4).map(|worker| format!("web {worker} {port} {port}")).collect();
    assert_eq!(workers, expected);
    let said = output(&mut third).unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("Address already in use"), "{said:?}");
}

#[test]
fn a_run_with_own_binds() {
    let Some(host) = up() else { return };
    if !require_program("python3") {
        return;
    }
    let _taken = TcpListener::bind(("0.0.0.0", 7000)).unwrap();
    let port = 7000.to_string();
    let mut run = host.command(&["run", "game", "--own-binds"]);
    run.args(["--", "python3", "-c", GAME, "game", &port, "1"]);
    let _running = Program::start(run.stdout(Stdio::null())).unwrap();
    wait_until("the service", || host.json(&["services"]).as_array().unwrap().len() == 1);
    wait_for(&host, "game", 3);
    host.run(&["bind", "game", "tcp", "192.0.2.1/32", &port]);
    host.run(&["bind", "game", "udp", "192.0.2.1/32", &port]);
    assert_eq!(said_tcp("192.0.2.1:7000"), "game 0 7000 7000");
    assert_eq!(said_udp("192.0.2.1:7000"), "game 0 7000 7000");
    let answer = || host.json(&["explain", "udp", "192.0.2.1:7000"])["answer"].clone();
    assert_eq!(answer(), serde_json::json!({"from": "192.0.2.1:7000", "by": "inlet"}));
    host.run(&["service", "set", "game", "--answers", "bound"]);
    let from = answer()["from"].as_str().unwrap().parse::<std::net::SocketAddr>().unwrap();
    assert!(RANGE.contains(&from.port()), "{from}");
    let told = format!(" is in truth bound to port {}, as its service has own binds\n", from.port());
    let said = host.run(&["check"]).stdout;
    assert!(said.contains(&told), "{said}");
}

#[test]
fn what_cannot_be() {
    let Some(host) = up() else { return };
    if !require_program("python3") {
        return;
    }
    host.fails(&["service", "set", "app", "--own-binds"], "has no description, whose programs would have own binds");
    host.fails(
        &["service", "set", "app", "--own-binds", "--listen", "tcp:*:80"],
        "service app: own binds need a unit or a cgroup, whose programs have them",
    );
    host.fails(&["service", "set", "app", "--listen", "udp:*:*"], "udp:*:* means the sockets of clients too");
    let ran = host.apply("services.app = { listen = \"tcp:*:80\", binds = \"own\" }\nrules = []\n");
    assert!(ran.stderr.contains("\"binds\" needs \"unit\" or \"cgroup\""), "{}", ran.stderr);
    let ran = host.apply("services.app = { unit = \"a.service\", binds = \"mine\" }\nrules = []\n");
    assert!(ran.stderr.contains("unknown kind of binds \"mine\""), "{}", ran.stderr);
    let cgroup = Cgroup::new().unwrap();
    let set = ["service", "set", "app", "--cgroup", &path(&cgroup), "--own-binds"];
    // A socket is in the way, and then the kernel gives the ports to clients.
    let taken = TcpListener::bind(("127.0.0.1", *RANGE.start())).unwrap();
    host.fails(&set, "own binds have the ports 21000-21099, and a socket is bound to tcp:127.0.0.1:21000");
    drop(taken);
    let sysctl = |name: &str, value: &str| fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
    sysctl("ip_local_port_range", "21050\t60999");
    host.fails(&set, "the kernel gives port 21050 to clients by itself");
    assert_eq!(host.json(&["services"]).as_array().unwrap().len(), 0);
    sysctl("ip_local_reserved_ports", "21000-21099");
    host.ok(&set);
    // A program outside of the group cannot give its sockets.
    let mut outside = Command::new("python3");
    outside.args(["-c", GAME, "outside", "8080", "1"]);
    let outside = Program::start(outside.stdout(Stdio::null())).unwrap();
    wait_until("the program outside", || bound_ports().contains(&8080));
    let pid = outside.id().to_string();
    host.fails(
        &["register", "app", "--pid", &pid, "--listen", "tcp:[::]:8080"],
        "is a socket of a program outside cgroup",
    );
    assert_eq!(host.json(&["services"])[0]["sockets"].as_array().unwrap().len(), 0);
}
