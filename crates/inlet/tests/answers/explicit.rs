//! Servers that are written for it: one remote port asks several addresses and ports of one socket before any answer is
//! sent, and each answer leaves from where its question went. The clients are not connected, and look at the source.

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};

use inlet::rules::{Answers, Protocol};
use inlet::{AskedSocket, Instance, Question, Received};
use inlet_testkit::{End, Namespace, Netns, PATIENCE, World, veth};

use crate::common::{bind, up};
use crate::{PREFIXES, attached, set_answers, strict, world};

const V4: [&str; 3] = ["192.0.2.9", "192.0.2.77", "192.0.2.200"];
const V6: [&str; 3] = ["2001:db8::9", "2001:db8::7:7", "2001:db8::ff"];

/// An unconnected socket, which shows where answers come from.
fn client(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The server of a service that has rules for `ports` and, where these have it not, for the port that it is bound to.
fn serve(instance: &mut Instance, at: &str, ports: &[&str]) -> (AskedSocket, u16) {
    let socket = client(at);
    let own = socket.local_addr().unwrap().port();
    for prefix in PREFIXES {
        bind(instance, "dns", Protocol::Udp, prefix, &own.to_string());
        ports.iter().for_each(|ports| bind(instance, "dns", Protocol::Udp, prefix, ports));
    }
    let socket = AskedSocket::new(socket).unwrap();
    instance.register("dns", &socket).unwrap();
    (socket, own)
}

fn targets(addresses: &[&str], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect()
}

/// What a server got of a question, which says itself where it was sent.
fn next(server: &AskedSocket) -> (Question, Vec<u8>) {
    let mut buffer = [0; 128];
    let Received { data, cut, question } = server.receive(&mut buffer).unwrap();
    assert_eq!(cut, 0);
    (question, data.to_vec())
}

/// Asks at all targets, and has the last question answered first. The answers with where each came from.
fn interleaved(server: &AskedSocket, client: &UdpSocket, targets: &[SocketAddr]) -> Vec<(SocketAddr, String)> {
    targets.iter().for_each(|target| _ = client.send_to(target.to_string().as_bytes(), target).unwrap());
    let questions: Vec<_> = targets.iter().map(|_| next(server)).collect();
    for (target, (question, text)) in targets.iter().zip(&questions) {
        assert_eq!((question.asked(), &text[..]), (*target, target.to_string().as_bytes()));
        assert_eq!(question.remote(), client.local_addr().unwrap());
    }
    questions.iter().rev().for_each(|(question, text)| assert_eq!(server.answer(text, question).unwrap(), text.len()));
    targets.iter().map(|_| answer(client)).collect()
}

fn answer(client: &UdpSocket) -> (SocketAddr, String) {
    let mut buffer = [0; 128];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    (from, String::from_utf8(buffer[..len].to_vec()).unwrap())
}

/// Each answer comes from where its question went.
fn exact(server: &AskedSocket, client: &UdpSocket, targets: &[SocketAddr]) {
    for (from, asked) in interleaved(server, client, targets) {
        assert_eq!(from.to_string(), asked);
    }
}

#[test]
fn one_remote_port_asks_several_addresses() {
    let (v4, v6) = (("127.0.0.1:0", V4), ("[::1]:0", V6));
    for (bound, clients) in
        [("127.0.0.1:0", [v4].as_slice()), ("0.0.0.0:0", &[v4]), ("[::1]:0", &[v6]), ("[::]:0", &[v4, v6])]
    {
        let Some(world) = world() else { return };
        let mut instance = up(&world);
        let (server, own) = serve(&mut instance, bound, &["53", "1000-9999"]);
        for (from, addresses) in clients {
            let client = client(from);
            for port in [own, 53, 1000, 5000, 9999, own] {
                exact(&server, &client, &targets(addresses, port));
            }
            // At each address another port.
            let mut several = targets(addresses, 53);
            several[0].set_port(9999);
            several[1].set_port(own);
            (0..3).for_each(|_| exact(&server, &client, &several));
            // A strict client beside it.
            let strict = strict(&several[0].to_string());
            strict.send(b"strict").unwrap();
            let (question, text) = next(&server);
            server.answer(&text, &question).unwrap();
            assert_eq!(strict.recv(&mut [0; 16]).unwrap(), 6);
        }
    }
}

/// The port is that which the remote port asked last at the address.
#[test]
fn ports_of_one_address_are_not_kept_apart() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let (server, own) = serve(&mut instance, "[::]:0", &["1000-9999"]);
    for (from, addresses) in [("127.0.0.1:0", V4), ("[::1]:0", V6)] {
        let client = client(from);
        for ports in [[1000, 2000], [2000, own], [own, 2000]] {
            let asked: Vec<SocketAddr> = ports.iter().flat_map(|port| targets(&addresses, *port)).collect();
            for (answered, asked) in interleaved(&server, &client, &asked) {
                let asked: SocketAddr = asked.parse().unwrap();
                assert_eq!(answered, SocketAddr::new(asked.ip(), ports[1]));
            }
            // One after the other.
            asked.iter().for_each(|target| exact(&server, &client, &[*target]));
        }
    }
}

#[test]
fn it_takes_no_program_where_the_port_is_that_of_the_socket() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let (server, own) = serve(&mut instance, "[::]:0", &["53"]);
    set_answers(&mut instance, "dns", Answers::Bound);
    assert_eq!(attached(&world), [""; 0]);
    for (from, addresses) in [("127.0.0.1:0", V4), ("[::1]:0", V6)] {
        let client = client(from);
        exact(&server, &client, &targets(&addresses, own));
        // The port of the socket, where another one was asked.
        for (answered, asked) in interleaved(&server, &client, &targets(&addresses, 53)) {
            let asked: SocketAddr = asked.parse().unwrap();
            assert_eq!(answered, SocketAddr::new(asked.ip(), own));
        }
    }
}

/// An answer from the address that the socket is bound to looks like one that names no address.
#[test]
fn the_one_address_of_a_socket_is_not_kept_apart() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    for (bound, elsewhere) in [("127.0.0.1", V4[0]), ("::1", V6[0])] {
        let at = SocketAddr::new(bound.parse().unwrap(), 0);
        let (server, own) = serve(&mut instance, &at.to_string(), &[]);
        let client = client(&at.to_string());
        let [bound, elsewhere] = [targets(&[bound], own)[0], targets(&[elsewhere], own)[0]];
        let from = |asked: &[SocketAddr]| {
            let mut from: Vec<_> = interleaved(&server, &client, asked).into_iter().map(|(from, _)| from).collect();
            from.reverse();
            from
        };
        assert_eq!(from(&[bound]), [bound]);
        assert_eq!(from(&[bound, elsewhere]), [elsewhere, elsewhere]);
        // No rule leads to the address itself. What was asked there last leaves from there.
        assert_eq!(from(&[elsewhere, bound]), [elsewhere, bound]);
        assert_eq!(from(&[bound]), [bound]);
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let (server, own) = serve(&mut instance, "[::]:0", &["53"]);
    for (from, address) in [("127.0.0.1:0", V4[0]), ("[::1]:0", V6[0])] {
        let client = client(from);
        for (port, sent, room) in [(own, 10, 4), (53, 10, 0), (53, 10, 9), (53, 10, 10), (53, 0, 0), (53, 60_000, 1)] {
            let target = targets(&[address], port)[0];
            client.send_to(&vec![7; sent], target).unwrap();
            let mut buffer = vec![0; room];
            let Received { data, cut, question } = server.receive(&mut buffer).unwrap();
            assert_eq!((data.len(), data.len() + cut), (room.min(sent), sent));
            // It can be answered all the same.
            server.answer(b"too long", &question).unwrap();
            assert_eq!(answer(&client), (target, "too long".to_owned()));
        }
    }
}

/// What came before the socket was wrapped is answered like all else.
#[test]
fn what_came_before() {
    let Some(_world) = world() else { return };
    for (from, address) in [("127.0.0.1:0", V4[0]), ("[::1]:0", V6[0])] {
        let plain = client("[::]:0");
        let target = targets(&[address], plain.local_addr().unwrap().port())[0];
        let client = client(from);
        client.send_to(b"early", target).unwrap();
        let server = AskedSocket::new(plain).unwrap();
        let (question, text) = next(&server);
        assert_eq!(question.asked(), target);
        server.answer(&text, &question).unwrap();
        assert_eq!(answer(&client).0, target);
    }
}

#[test]
fn a_socket_that_does_not_block_says_so() {
    let Some(_world) = world() else { return };
    for at in ["127.0.0.1:0", "[::]:0"] {
        let server = AskedSocket::new(UdpSocket::bind(at).unwrap()).unwrap().into_inner();
        server.set_nonblocking(true).unwrap();
        let server = AskedSocket::new(server).unwrap();
        assert_eq!(server.receive(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn other_sockets_are_refused_with_the_reason() {
    let (unix, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let error = AskedSocket::new(UdpSocket::from(std::os::fd::OwnedFd::from(unix))).unwrap_err().to_string();
    let (operation, cause) = error.split_once(" socket ").unwrap();
    assert_eq!(operation, "cannot have the kernel tell the addresses asked of");
    assert!(cause.contains(": Operation not supported"), "{error}");
}

/// The world and a namespace outside, each with an address of both families and a link-local one.
fn pair(world: &World) -> Namespace {
    let outside = Netns::unentered().unwrap();
    let inside_at = ["10.9.0.1/24", "2001:db8:9::1/64", "fe80::1/64"];
    let outside_at = ["10.9.0.2/24", "2001:db8:9::2/64", "fe80::2/64"];
    veth(
        End { namespace: world, name: "inside", addresses: &inside_at },
        End { namespace: &outside, name: "outside", addresses: &outside_at },
    )
    .unwrap();
    for (prefix, via) in PREFIXES.iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        outside.ip(&["route", "add", prefix, "via", via]).unwrap();
    }
    outside
}

fn interface(name: &str) -> u32 {
    rustix::net::netdevice::name_to_index(UdpSocket::bind("127.0.0.1:0").unwrap(), name).unwrap()
}

#[test]
fn over_veth_whole_and_in_fragments() {
    let Some(world) = world() else { return };
    let outside = pair(&world);
    let mut instance = up(&world);
    let (server, own) = serve(&mut instance, "[::]:0", &["53"]);
    for (from, addresses) in [("10.9.0.2:0", V4), ("[2001:db8:9::2]:0", V6)] {
        let client = outside.enter(|| client(from));
        for port in [own, 53] {
            let targets = targets(&addresses, port);
            exact(&server, &client, &targets);
            targets.iter().for_each(|target| _ = client.send_to(b"long", target).unwrap());
            let questions: Vec<_> = targets.iter().map(|_| next(&server).0).collect();
            for (number, question) in questions.iter().enumerate().rev() {
                for len in [6000, 60_000] {
                    let long = vec![number as u8; len];
                    assert_eq!(server.answer(&long, question).unwrap(), len);
                    let mut buffer = vec![0; 65_535];
                    let (got, from) = client.recv_from(&mut buffer).unwrap();
                    assert!((from, &buffer[..got]) == (targets[number], &long[..]), "{from}, {got} bytes");
                }
            }
        }
    }
}

/// A link-local address is one of an interface, also where a client with another address asks it.
#[test]
fn link_local_addresses() {
    let Some(world) = world() else { return };
    let outside = pair(&world);
    let [inside_index, outside_index] = [interface("inside"), outside.enter(|| interface("outside"))];
    let mut instance = up(&world);
    let (server, own) = serve(&mut instance, "[::]:0", &[]);
    bind(&mut instance, "dns", Protocol::Udp, "fe80::/64", "53");
    let at = |ip: &str, port, scope| SocketAddr::V6(SocketAddrV6::new(ip.parse().unwrap(), port, 0, scope));
    for (from, scope) in [(at("fe80::2", 0, outside_index), inside_index), (at("2001:db8:9::2", 0, 0), 0)] {
        let client = outside.enter(|| client(&from.to_string()));
        for port in [own, 53] {
            let target = at("fe80::1", port, outside_index);
            client.send_to(b"near", target).unwrap();
            let (question, text) = next(&server);
            assert_eq!(question.asked(), at("fe80::1", port, inside_index));
            let remote = at(&from.ip().to_string(), client.local_addr().unwrap().port(), scope);
            assert_eq!(question.remote(), remote);
            server.answer(&text, &question).unwrap();
            assert_eq!(answer(&client), (target, "near".to_owned()));
        }
    }
}

/// What is asked of many is no address to answer from: the kernel takes one.
#[test]
fn multicast_and_broadcast() {
    let Some(world) = world() else { return };
    let outside = pair(&world);
    outside.ip(&["route", "add", "239.0.0.0/8", "dev", "outside"]).unwrap();
    let scope = outside.enter(|| interface("outside"));
    let mut instance = up(&world);
    let (v4, v4_port) = serve(&mut instance, "0.0.0.0:0", &[]);
    let (both, port) = serve(&mut instance, "[::]:0", &[]);
    let [v4, both] = [v4, both].map(AskedSocket::into_inner);
    v4.join_multicast_v4(&"239.1.2.3".parse().unwrap(), &"10.9.0.1".parse().unwrap()).unwrap();
    both.join_multicast_v6(&"ff02::1234".parse().unwrap(), interface("inside")).unwrap();
    let [v4, both] = [v4, both].map(|socket| AskedSocket::new(socket).unwrap());
    for (server, from, target) in [
        (&v4, "10.9.0.2:0", format!("239.1.2.3:{v4_port}")),
        (&v4, "10.9.0.2:0", format!("10.9.0.255:{v4_port}")),
        (&v4, "10.9.0.2:0", format!("255.255.255.255:{v4_port}")),
        (&both, "10.9.0.2:0", format!("10.9.0.255:{port}")),
        (&both, "[fe80::2%S]:0", format!("[ff02::1234%S]:{port}")),
        (&both, "[2001:db8:9::2]:0", format!("[ff02::1234%S]:{port}")),
    ] {
        let [from, target] = [from, &target].map(|at| at.replace("%S", &format!("%{scope}")));
        let target: SocketAddr = target.parse().unwrap();
        let client = outside.enter(|| client(&from));
        client.set_broadcast(true).unwrap();
        client.send_to(b"all", target).unwrap();
        let (question, text) = next(server);
        assert_eq!((question.asked().ip(), question.asked().port()), (target.ip(), target.port()));
        server.answer(&text, &question).unwrap();
        let from = answer(&client).0;
        // The kernel gives each interface a link-local address too.
        let addresses = world.ip(&["-o", "addr", "show", "dev", "inside"]).unwrap();
        assert!(addresses.contains(&format!(" {}/", from.ip())), "{target} {from} {addresses}");
        assert_eq!(from.port(), target.port());
    }
}
