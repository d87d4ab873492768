//! A UDP server that connects the socket that its service has, as `iperf3 -s` does: the kernel gives it what its peer
//! sends, and rules give it nothing. Readers say so, and datagrams show that it is true.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{bind, here, snapshot, state, up};
use inlet::rules::{Packet, Protocol};
use inlet::{Checker, Finding, Listeners, Outcome, Severity};
use inlet_testkit::{PATIENCE, World};
use rustix::net::sockopt::socket_cookie;

const TARGET: &str = "192.0.2.7:5201";

fn socket(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn found(world: &World) -> Vec<Finding> {
    let mut findings = Checker::new(here(world)).check(None).unwrap().findings;
    findings.retain(|it| it.code == "socket-not-receiving");
    findings
}

/// Whether a rule gives a new client's datagram to nobody.
fn is_refused() -> bool {
    let client = socket("127.0.0.1:0");
    client.connect(TARGET).unwrap();
    client.send(b"hello").unwrap();
    client.recv(&mut [0; 16]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_connected_socket_is_told() {
    for (any, loopback) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::ffff:127.0.0.1")] {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        bind(&mut instance, "iperf", Protocol::Udp, "192.0.2.0/24", "5201");
        let server = socket(any);
        let cookie = socket_cookie(&server).unwrap();
        instance.register("iperf", &server).unwrap();
        drop(instance);
        let (peer, unknown) = (socket("127.0.0.1:0"), "127.0.0.1:9".parse().unwrap());
        let peer_at = peer.local_addr().unwrap();
        peer.send_to(b"first", TARGET).unwrap();
        server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((state(&world, "iperf").sockets[0].peer, found(&world)), (None, vec![]));

        server.connect(SocketAddr::new(loopback.parse().unwrap(), peer_at.port())).unwrap();
        assert!(is_refused());
        let own: SocketAddr = ([127, 0, 0, 1], server.local_addr().unwrap().port()).into();
        peer.send_to(b"second", own).unwrap();
        assert_eq!(server.recv(&mut [0; 16]).unwrap(), 6);

        let told = &state(&world, "iperf").sockets[0];
        assert_eq!((told.cookie, told.receiving, told.peer), (cookie, false, Some(peer_at)));
        let seen = Listeners::of(&here(&world), Some(&snapshot(&world))).unwrap();
        assert_eq!((seen.services[0].sockets, seen.services[0].receiving), (1, 0));
        let its = seen.listeners.iter().find(|it| it.socket.cookie == cookie).unwrap();
        assert!(its.kept.is_empty() && its.socket.peer == Some(peer_at), "{its:?}");
        let [finding] = found(&world).try_into().unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        let what = format!("of service iperf is connected to {peer_at}, and receives nothing by rules");
        assert!(finding.what.ends_with(&what), "{finding:?}");

        let packet = |local, remote| Packet::new(Protocol::Udp, local, remote);
        let by_rule = snapshot(&world).explain(&packet(TARGET.parse().unwrap(), peer_at)).unwrap();
        assert_eq!((by_rule.outcome, by_rule.sockets[0].peer), (Outcome::Refuse, Some(peer_at)));
        assert!(by_rule.connected.is_none() && by_rule.socket.is_none());
        let from_peer = snapshot(&world).explain(&packet(own, peer_at)).unwrap();
        assert_eq!((from_peer.outcome, from_peer.connected.unwrap().cookie), (Outcome::Socket, cookie));
        let from_other = snapshot(&world).explain(&packet(own, unknown)).unwrap();
        assert!(from_other.connected.is_none() && from_other.outcome != Outcome::Socket);

        // With another socket the service works, and what is told is a note.
        let second = socket("127.0.0.1:0");
        common::open(&world).register("iperf", &second).unwrap();
        peer.send_to(b"third", TARGET).unwrap();
        assert_eq!(second.recv(&mut [0; 16]).unwrap(), 5);
        assert_eq!(found(&world)[0].severity, Severity::Note);
    }
}
