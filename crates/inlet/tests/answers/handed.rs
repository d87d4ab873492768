//! What the program for sends hands to the program for packets counts for the packet of that send alone. Answers that are
//! dropped on their way leave something behind on the processor that sent them: here all is sent by one.

use std::net::{SocketAddr, UdpSocket};

use inlet::AnswersState;
use inlet::rules::Protocol;
use inlet_testkit::{PATIENCE, World};

use crate::common::{bind, snapshot, up};
use crate::forgotten::stay_on_a_processor;
use crate::{PREFIXES, world};

const OWN_PORT: u16 = 5300;

/// Both families: where the server is bound, what is asked, and the client.
const ENDS: [[&str; 3]; 2] = [["0.0.0.0", "192.0.2.1", "127.0.0.1"], ["[::]", "[2001:db8::1]", "[::1]"]];

fn firewall(world: &World, text: &str) {
    let mut nft = std::process::Command::new("nft");
    assert!(world.enter(|| nft.args(["-f", "-"]).stdin(input(text)).status()).unwrap().success());
}

fn input(text: &str) -> std::io::PipeReader {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    reader
}

/// A socket that may share its port.
fn shared(addr: &str) -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, ipproto, socket, sockopt};
    let addr: SocketAddr = addr.parse().unwrap();
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::DGRAM, Some(ipproto::UDP)).unwrap();
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    if addr.is_ipv6() {
        // What is asked is local by a route alone.
        sockopt::set_ipv6_freebind(&fd, true).unwrap();
    }
    bind(&fd, &addr).unwrap();
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn port_of_answer(client: &UdpSocket) -> u16 {
    client.recv_from(&mut [0; 16]).unwrap().1.port()
}

fn ask(client: &UdpSocket, server: &UdpSocket, asked: &str) {
    client.send_to(b"who", asked).unwrap();
    server.recv_from(&mut [0; 16]).unwrap();
}

/// The kernel tells the sender of what the firewall dropped.
fn drop_answer(world: &World, server: &UdpSocket, to: SocketAddr) {
    firewall(world, "table inet t { chain out { type filter hook output priority 0; udp sport 5300 drop; }; }");
    server.send_to(b"lost", to).unwrap_err();
    firewall(world, "delete table inet t");
}

#[test]
fn an_answer_that_was_dropped_leaves_nothing_for_another_packet() {
    let Some(world) = world() else { return };
    stay_on_a_processor();
    for [bound, asked, from] in ENDS {
        let mut instance = up(&world);
        PREFIXES.iter().for_each(|prefix| bind(&mut instance, "dns", Protocol::Udp, prefix, "53-54"));
        let server = shared(&format!("{bound}:{OWN_PORT}"));
        instance.register("dns", &server).unwrap();
        let client = shared(&format!("{from}:4000"));
        let at = client.local_addr().unwrap();
        // What is usual.
        ask(&client, &server, &format!("{asked}:53"));
        server.send_to(b"me", at).unwrap();
        assert_eq!(port_of_answer(&client), 53);
        // Another socket of that port, which nobody asked, sends the same packet.
        let silent = shared(&format!("{asked}:{OWN_PORT}"));
        drop_answer(&world, &server, at);
        silent.connect(at).unwrap();
        silent.send(b"me").unwrap();
        assert_eq!(port_of_answer(&client), OWN_PORT, "{asked}");
        drop(silent);
        // The client asks elsewhere meanwhile.
        drop_answer(&world, &server, at);
        ask(&client, &server, &format!("{asked}:54"));
        server.send_to(b"me", at).unwrap();
        assert_eq!(port_of_answer(&client), 54);
        drop(instance);
        let AnswersState::Asked { counters, .. } = snapshot(&world).answers().unwrap() else { panic!() };
        assert_eq!(counters.rewritten, 2, "{counters:?}");
        inlet::Instance::down(&crate::common::here(&world)).unwrap();
    }
}

/// A connected socket pays no program for sends. What an earlier send left behind is older than the table.
#[test]
fn a_question_elsewhere_makes_what_was_handed_over_old() {
    let Some(world) = world() else { return };
    stay_on_a_processor();
    for [_, asked, from] in ENDS {
        let mut instance = up(&world);
        PREFIXES.iter().for_each(|prefix| bind(&mut instance, "dns", Protocol::Udp, prefix, "53-54"));
        let server = shared(&format!("{asked}:{OWN_PORT}"));
        instance.register("dns", &server).unwrap();
        drop(instance);
        let client = shared(&format!("{from}:4000"));
        let at = client.local_addr().unwrap();
        ask(&client, &server, &format!("{asked}:53"));
        drop_answer(&world, &server, at);
        ask(&client, &server, &format!("{asked}:54"));
        server.connect(at).unwrap();
        server.send(b"me").unwrap();
        assert_eq!(port_of_answer(&client), 54);
        inlet::Instance::down(&crate::common::here(&world)).unwrap();
    }
}
