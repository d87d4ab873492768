//! Flows over UDP stay on the socket that got their first datagram. The clients are connected sockets, and count which
//! server answered each of them.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{anywhere, bind, here, snapshot, told, tree, up};
use inlet::rules::{Packet, Protocol, Spread, Sticky};
use inlet::{Instance, ServiceRequest};
use inlet_testkit::{PATIENCE, UdpServer, World};

const PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

fn world() -> Option<World> {
    let world = World::new()?;
    PREFIXES.iter().for_each(|prefix| world.local(prefix).unwrap());
    Some(world)
}

fn set_sticky(instance: &mut Instance, service: &str, seconds: u16) -> inlet::Result<()> {
    let request = ServiceRequest { sticky: Sticky::new(seconds), ..ServiceRequest::default() };
    instance.set_service(&service.parse().unwrap(), request).map(drop)
}

/// An instance whose service has ports of both prefixes, and whose flows stay.
fn sticky(world: &World, seconds: u16) -> Instance {
    let mut instance = up(world);
    PREFIXES.iter().for_each(|prefix| bind(&mut instance, "quic", Protocol::Udp, prefix, "443-1443"));
    set_sticky(&mut instance, "quic", seconds).unwrap();
    instance
}

/// So many clients, each with a port and a target of its own, of both families.
fn clients(count: u16) -> Vec<UdpSocket> {
    let client = |number: u16| {
        let addr: IpAddr = match number % 2 {
            0 => [192, 0, 2, number as u8].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into(),
        };
        let socket = UdpSocket::bind(if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.connect((addr, 443 + number)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    (0..count).map(client).collect()
}

/// The server that answers a client.
fn server_of(client: &UdpSocket) -> String {
    client.send(b"who").unwrap();
    let mut buffer = [0; 200];
    let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{:?}: {error}", client.peer_addr()));
    let text = std::str::from_utf8(&buffer[..len]).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

fn servers_of(clients: &[UdpSocket]) -> Vec<String> {
    clients.iter().map(server_of).collect()
}

fn count(servers: &[String]) -> BTreeMap<&str, usize> {
    servers.iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name.as_str()).or_default() += 1;
        counts
    })
}

fn serve(instance: &mut Instance, name: &str) -> UdpServer {
    let server = UdpServer::spawn(name, anywhere()).unwrap();
    instance.register("quic", &server).unwrap();
    server
}

#[test]
fn flows_stay_when_sockets_come_and_go() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 300);
    let first = serve(&mut instance, "first");
    let old = clients(100);
    assert_eq!(count(&servers_of(&old)), BTreeMap::from([("first", 100)]));
    let others: Vec<UdpServer> = (0..12).map(|number| serve(&mut instance, &format!("other{number}"))).collect();
    assert_eq!(count(&servers_of(&old)), BTreeMap::from([("first", 100)]));

    let new = clients(200);
    let chosen = servers_of(&new);
    assert!(count(&chosen).len() > 8, "{:?}", count(&chosen));
    // A change of the rules moves no flow, and neither does a socket that leaves any but its own.
    bind(&mut instance, "quic", Protocol::Udp, PREFIXES[0], "5000");
    assert_eq!(servers_of(&new), chosen);
    let mut others = others;
    drop(others.remove(0));
    let after = servers_of(&new);
    let moved: Vec<_> = chosen.iter().zip(&after).filter(|(was, is)| was != is).collect();
    assert_eq!(moved.len(), chosen.iter().filter(|name| *name == "other0").count());
    assert!(moved.iter().all(|(was, _)| *was == "other0"), "{moved:?}");
    assert_eq!(servers_of(&new), after);
    // The new socket that takes its slot gets none of them.
    let _late = serve(&mut instance, "late");
    assert_eq!(servers_of(&new), after);

    drop(first);
    assert!(!count(&servers_of(&old)).contains_key("first"));
}

#[test]
fn a_flow_that_was_silent_for_too_long_is_a_new_one() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 1);
    // Bound to an address, and answering without being told from where: nothing but the send shows that it is alive.
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    instance.register("quic", &first).unwrap();
    let all: Vec<UdpSocket> = clients(128).into_iter().step_by(2).collect();
    let (heard, silent) = all.split_at(32);
    let mut remotes = Vec::new();
    for client in &all {
        client.send(b"hello").unwrap();
        remotes.push(first.recv_from(&mut [0; 16]).unwrap().1);
    }
    let other = UdpServer::spawn("other", "127.0.0.1:0".parse().unwrap()).unwrap();
    instance.register("quic", &other).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        for remote in &remotes[..heard.len()] {
            first.send_to(b"push", remote).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let asked = |clients: &[UdpSocket]| {
        clients.iter().for_each(|client| _ = client.send(b"again").unwrap());
        first.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        clients.iter().map_while(|_| first.recv_from(&mut [0; 16]).ok()).count()
    };
    assert_eq!(asked(heard), heard.len());
    assert!(asked(silent) < silent.len());
}

/// Rules come first: a flow whose packets are another service's goes there, and is a new one when it comes back.
#[test]
fn rules_come_before_flows() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 300);
    let _first = serve(&mut instance, "first");
    let flows = clients(40);
    assert_eq!(count(&servers_of(&flows)), BTreeMap::from([("first", 40)]));
    let second = UdpServer::spawn("second", anywhere()).unwrap();
    PREFIXES.iter().for_each(|prefix| bind(&mut instance, "other", Protocol::Udp, prefix, "443-1443"));
    instance.register("other", &second).unwrap();
    assert_eq!(count(&servers_of(&flows)), BTreeMap::from([("second", 40)]));
    PREFIXES.iter().for_each(|prefix| bind(&mut instance, "quic", Protocol::Udp, prefix, "443-1443"));
    assert_eq!(count(&servers_of(&flows)), BTreeMap::from([("first", 40)]));
}

#[test]
fn explain_tells_where_a_flow_stays() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 300);
    let first = serve(&mut instance, "first");
    let client = &clients(1)[0];
    client.send(b"who").unwrap();
    client.recv(&mut [0; 100]).unwrap();
    let _others: Vec<UdpServer> = (0..20).map(|number| serve(&mut instance, &format!("other{number}"))).collect();
    drop(instance);
    let packet = |remote: SocketAddr| Packet {
        protocol: Protocol::Udp,
        local: client.peer_addr().unwrap(),
        remote,
        ifindex: 0,
        mark: None,
    };
    let remote = SocketAddr::new([127, 0, 0, 1].into(), client.local_addr().unwrap().port());
    let source = SocketAddr::new(client.local_addr().unwrap().ip(), remote.port());
    let known = snapshot(&world).explain(&packet(source)).unwrap();
    let stays = known.stays.unwrap();
    assert_eq!(stays.seconds, 300);
    let on = stays.on.unwrap();
    assert_eq!(on.socket.cookie, rustix::net::sockopt::socket_cookie(&first).unwrap());
    assert_eq!(known.socket.unwrap().cookie, on.socket.cookie);
    let new = snapshot(&world).explain(&packet("203.0.113.9:9".parse().unwrap())).unwrap();
    assert!(new.stays.unwrap().on.is_none());
}

#[test]
fn nothing_is_kept_while_no_flow_stays() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 120);
    let kept = |world: &World| tree(&here(world).dir()).into_iter().filter(|pin| pin.starts_with("sticky")).count();
    assert_eq!(kept(&world), 5);
    set_sticky(&mut instance, "quic", 0).unwrap();
    assert_eq!(kept(&world), 0);
    set_sticky(&mut instance, "idle", 120).unwrap();
    assert_eq!(kept(&world), 0);
    set_sticky(&mut instance, "quic", 120).unwrap();
    drop(instance);
    Instance::down(&here(&world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
}

#[test]
fn what_cannot_stay_is_refused() {
    let Some(world) = world() else { return };
    let mut instance = sticky(&world, 120);
    let before = instance.generation();
    bind(&mut instance, "web", Protocol::Tcp, PREFIXES[0], "80");
    assert_eq!(
        told(&set_sticky(&mut instance, "web", 5).unwrap_err()),
        "service web: sticky is for flows over UDP, and this service has TCP only\n\
         fix: leave sticky out: a connection over TCP stays on its socket by itself"
    );
    let request = ServiceRequest { spread: Some(Spread::Group), ..ServiceRequest::default() };
    assert_eq!(
        told(&instance.set_service(&"quic".parse().unwrap(), request).unwrap_err()),
        "service quic: flows cannot stay (sticky) where the SO_REUSEPORT group chooses (spread = \"group\")\n\
         fix: leave the choice to Inlet (spread = \"inlet\"), or leave sticky out"
    );
    assert_eq!(instance.generation(), before + 1);
    assert_eq!(Sticky::new(Sticky::MAX + 1), None);
}
