//! A new version of a server takes over from the old one, which keeps the clients that it has. The server knows its clients as
//! one of QUIC does: a client that comes to the wrong process is lost.

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use inlet_testkit::{Proto, output, require_program};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, at, wait_for_sockets, wait_until};

/// Says who it is and how often a client that said hello has come; any other client is unknown to it. Over TCP it accepts only
/// once it is told.
const SERVER: &str = r#"
import select, socket, sys
name, port = sys.argv[1], int(sys.argv[2])
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", port))
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
clients, serves = {}, [udp]
while True:
    for ready in select.select(serves, [], [])[0]:
        if ready is tcp:
            with tcp.accept()[0] as client:
                client.sendall(name.encode())
            continue
        text, client = udp.recvfrom(2048)
        if text == b"accept":
            serves.append(tcp)
            continue
        if text == b"hello":
            clients[client] = 0
        if client not in clients:
            udp.sendto(b"unknown", client)
            continue
        clients[client] += 1
        udp.sendto(f"{name} {clients[client]}".encode(), client)
"#;

const V4: &str = "192.0.2.0/24";
const V6: &str = "2001:db8::/64";

/// A host whose service `web` has all sockets at two private ports, over UDP and TCP.
fn host(sticky: &str) -> Option<Host> {
    let host = Host::up()?;
    for prefix in [V4, V6] {
        host.world.local(prefix).unwrap();
        host.ok(&["bind", "web", "udp", prefix, "any"]);
        host.ok(&["bind", "web", "tcp", prefix, "any"]);
    }
    let mut set = vec!["service", "set", "web", "--sticky", sticky];
    set.extend(
        ["udp:*:5301", "udp:*:5302", "tcp:*:5301", "tcp:*:5302"].iter().flat_map(|listen| ["--listen", *listen]),
    );
    host.ok(&set);
    Some(host)
}

fn start(host: &Host, dir: &TempDir, name: &str, port: &str) -> Daemon {
    let mut daemon = Daemon::start(dir.path(), Command::new("python3").args(["-c", SERVER, name, port]));
    daemon.wait_listening(Proto::Udp, &format!("[::]:{port}"));
    daemon.wait_listening(Proto::Tcp, &format!("[::]:{port}"));
    host.ok(&["adopt"]);
    daemon
}

/// So many clients, of both families, each at an address and port of its own.
fn clients(count: u16) -> Vec<UdpSocket> {
    let client = |number: u16| {
        let target: SocketAddr = match number % 2 {
            0 => ([192, 0, 2, number as u8], 400 + number).into(),
            _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 400 + number).into(),
        };
        let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    (0..count).map(client).collect()
}

fn say(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).unwrap();
    let mut buffer = [0; 100];
    let length = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{:?}: {error}", client.peer_addr()));
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// How many clients hear this.
fn hear(clients: &[UdpSocket], text: &str, answer: &str) -> usize {
    clients.iter().filter(|client| say(client, text) == answer).count()
}

/// The cookies of the sockets at a port by `ss`, over TCP and over UDP.
fn cookies(port: &str) -> Vec<u64> {
    let said = output(Command::new("ss").args(["-Hlntue", "sport", "=", port])).unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let cookie = |line: &&str| line.split_whitespace().find_map(|word| word.strip_prefix("sk:")).map(str::to_owned);
    lines.iter().filter_map(cookie).map(|cookie| u64::from_str_radix(&cookie, 16).unwrap()).collect()
}

/// The sockets that are being drained, as `status` tells them.
fn told(host: &Host) -> Vec<Value> {
    let status = host.json(&["status"]);
    let web = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "web");
    web.unwrap()["drained"].as_array().unwrap().clone()
}

/// What is told of the sockets of a server that are being drained, which are those that `ss` lists at its port: protocol, flows
/// and connections.
fn drained(host: &Host, server: &Daemon) -> [[String; 3]; 2] {
    let told = told(host);
    let listeners = host.json(&["listeners"]);
    let text = [host.ok(&["status"]), host.ok(&["listeners"])];
    assert!(text[0].contains("being drained: nothing new gets there"), "{}", text[0]);
    assert!(text[1].contains("drained  service web "), "{}", text[1]);
    let ours: Vec<u64> = told.iter().map(|it| it["cookie"].as_u64().unwrap()).collect();
    assert_eq!(ours, cookies(":5301"), "{told:?}");
    let each = |it: &Value| {
        assert_eq!((&it["local"], &it["owners"][0]["pid"]), (&json!("[::]:5301"), &json!(server.id())));
        let listener = listeners["listeners"].as_array().unwrap().iter().find(|other| other["cookie"] == it["cookie"]);
        let drained = &listener.unwrap()["drained"];
        assert_eq!((&drained["service"], &drained["flows"]), (&json!("web"), &it["flows"]));
        assert!(text[0].contains(&format!("cookie {}", it["cookie"])), "{}", text[0]);
        [it["protocol"].as_str().unwrap().to_owned(), it["flows"].to_string(), it["connections"].to_string()]
    };
    told.iter().map(each).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn a_restart_with_overlap_loses_no_flow() {
    let Some(host) = host("3") else { return };
    if !require_program("python3") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let old = start(&host, &dir, "old", "5301");
    let pid = old.id().to_string();
    host.fails(&["drain", "web", "--pid", &pid], "has no IPv4 tcp socket but those of process");
    let live = clients(200);
    assert_eq!(hear(&live, "hello", "old 1"), 200);
    let new = start(&host, &dir, "new", "5302");
    assert_eq!(hear(&live, "again", "old 2"), 200);

    let me = std::process::id().to_string();
    host.fails(&["drain", "web", "--pid", &me], "has no socket that serves \"web\"");
    let first = host.run(&["drain", "web", "--pid", &pid, "--timeout", "0"]);
    assert_eq!(first.code, Some(3), "{first:?}");
    assert!(first.stdout.contains("200 flows left, the youngest "), "{}", first.stdout);
    assert_eq!(drained(&host, &old), [["tcp", "0", "0"], ["udp", "200", "0"]]);
    // Whoever looks for sockets leaves it alone, and the rules may change.
    host.ok(&["adopt"]);
    host.ok(&["bind", "other", "udp", "198.51.100.0/24", "53"]);
    assert_eq!(hear(&live, "again", "old 3"), 200);
    let more = clients(100);
    assert_eq!(hear(&more, "hello", "new 1"), 100);
    assert_eq!(hear(&live, "again", "old 4"), 200);

    // The clients go, and nothing is left once they were silent for their time.
    drop(live);
    let began = Instant::now();
    let done = host.run(&["drain", "web", "--pid", &pid, "--timeout", "60", "--json"]);
    assert_eq!((done.code, began.elapsed() < Duration::from_secs(40)), (Some(0), true), "{done:?}");
    assert_eq!(drained(&host, &old), [["tcp", "0", "0"], ["udp", "0", "0"]]);
    old.end(Signal::KILL);
    wait_until("no socket is drained", || told(&host).is_empty());
    assert!(!host.ok(&["status"]).contains("drained") && !host.ok(&["listeners"]).contains("drained"));
    assert_eq!(hear(&more, "again", "new 2"), 100);
    new.end(Signal::KILL);
}

#[test]
fn connections_that_wait_are_accepted_first() {
    let Some(host) = host("0") else { return };
    if !require_program("python3") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let old = start(&host, &dir, "old", "5301");
    let pid = old.id().to_string();
    let mut early = TcpStream::connect(at("192.0.2.7:443")).unwrap();
    let new = start(&host, &dir, "new", "5302");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"accept", "127.0.0.1:5302").unwrap();
    let first = host.run(&["drain", "web", "--pid", &pid, "--timeout", "0"]);
    assert_eq!(first.code, Some(3), "{first:?}");
    assert!(first.stdout.contains("flows over UDP go to the other sockets"), "{}", first.stdout);
    assert!(first.stdout.contains("1 connection not accepted yet"), "{}", first.stdout);
    assert_eq!(drained(&host, &old), [["tcp", "0", "1"], ["udp", "0", "0"]]);
    let said = |stream: &mut TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    for _ in 0..20 {
        assert_eq!(said(&mut TcpStream::connect(at("[2001:db8::7]:443")).unwrap()), "new");
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"accept", "127.0.0.1:5301").unwrap();
    assert_eq!(said(&mut early), "old");
    let done = host.run(&["drain", "web", "--pid", &pid]);
    assert_eq!((done.code, done.stdout.ends_with("nothing is left\n")), (Some(0), true), "{done:?}");

    // It can have its sockets back.
    wait_for_sockets(&host, 2);
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:[::]:5301", "--listen", "udp:[::]:5301"]);
    wait_for_sockets(&host, 4);
    assert!(told(&host).is_empty(), "{:?}", told(&host));
    wait_until("a connection for the old one", || said(&mut TcpStream::connect(at("192.0.2.7:443")).unwrap()) == "old");
    drop((old, new));
}

/// What a restart costs without flows that stay: told, so that nobody wonders.
#[test]
fn without_sticky_a_new_socket_takes_flows() {
    let Some(host) = host("0") else { return };
    if !require_program("python3") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let old = start(&host, &dir, "old", "5301");
    let live = clients(200);
    assert_eq!(hear(&live, "hello", "old 1"), 200);
    let new = start(&host, &dir, "new", "5302");
    let lost = hear(&live, "again", "unknown");
    println!("{lost} of 200 flows lost when a second socket came, without sticky");
    assert!((50..150).contains(&lost), "{lost}");
    drop((old, new));
}
