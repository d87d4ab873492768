//! Echo servers, dialers and what joins them.

use std::net::{IpAddr, UdpSocket};

use inlet_testkit::{
    Answer, Dial, End, Listen, Netns, Proto, TcpServer, UdpServer, World, dial_tcp, dial_udp, is_listening,
    require_root, veth, wait_listening,
};

use crate::{PATIENCE, SHORT, assert_from, at};

#[test]
fn tcp_says_who_and_where() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/32").unwrap();
    let _four = TcpServer::spawn("four", at("0.0.0.0:80")).unwrap();
    let how = Listen::new().v6only();
    let _six = TcpServer::spawn_with("six", at("[::]:80"), how).unwrap();
    let source: IpAddr = "192.0.2.77".parse().unwrap();
    let answer = dial_tcp(at("192.0.2.9:80"), &Dial::new().source(source));
    assert_from(&answer, "four", "192.0.2.9:80");
    let Answer::From { peer, sender, .. } = answer else { unreachable!() };
    assert_eq!((peer.ip(), sender), (source, at("192.0.2.9:80")));
    let answer = dial_tcp(at("[2001:db8::9]:80"), &Dial::new());
    assert_from(&answer, "six", "[2001:db8::9]:80");
}

#[test]
fn udp_answers_from_where_it_was_asked() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/32").unwrap();
    let _four = UdpServer::spawn("four", at("0.0.0.0:53")).unwrap();
    let _six = UdpServer::spawn_with("six", at("[::]:53"), Listen::new().v6only()).unwrap();
    let asked = [("four", "192.0.2.9:53"), ("six", "[2001:db8::9]:53")];
    for (name, to) in asked {
        let answer = dial_udp(at(to), &Dial::new());
        assert_from(&answer, name, to);
        assert!(matches!(answer, Answer::From { sender, .. } if sender == at(to)), "{answer:?}");
    }
}

#[test]
fn binding_an_anyip_address_takes_freebind_for_v6_only() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/32").unwrap();
    let six = at("[2001:db8::9]:80");
    assert!(TcpServer::spawn("four", at("192.0.2.9:80")).is_ok());
    let error = TcpServer::spawn("six", six).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    let how = Listen::new().freebind();
    let _six = TcpServer::spawn_with("six", six, how).unwrap();
    assert_from(&dial_tcp(six, &Dial::new()), "six", "[2001:db8::9]:80");
}

#[test]
fn dual_stack_servers_speak_v4() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let _tcp = TcpServer::spawn("tcp", at("[::]:80")).unwrap();
    let _udp = UdpServer::spawn("udp", at("[::]:80")).unwrap();
    let to = "192.0.2.9:80";
    assert_from(&dial_tcp(at(to), &Dial::new()), "tcp", to);
    let answer = dial_udp(at(to), &Dial::new());
    assert_from(&answer, "udp", to);
    assert!(matches!(answer, Answer::From { sender, .. } if sender == at(to)), "{answer:?}");
}

#[test]
fn refusals_are_answers() {
    let Some(_world) = World::new() else { return };
    for to in ["127.0.0.1:9", "[::1]:9"] {
        assert_eq!(dial_tcp(at(to), &Dial::new()), Answer::Refused);
        assert_eq!(dial_udp(at(to), &Dial::new()), Answer::Refused);
    }
}

#[test]
fn silence_is_an_answer() {
    let Some(_world) = World::new() else { return };
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let how = Dial::new().timeout(SHORT);
    assert_eq!(dial_udp(silent.local_addr().unwrap(), &how), Answer::TimedOut);
    let answer = dial_tcp(at("198.51.100.1:80"), &Dial::new());
    assert_eq!(answer, Answer::Other(std::io::ErrorKind::NetworkUnreachable));
}

#[test]
fn workers_share_a_port_and_a_gone_server_refuses() {
    let Some(_world) = World::new() else { return };
    let how = Listen::new().workers(3);
    let mut server = TcpServer::spawn_with("many", at("127.0.0.1:0"), how).unwrap();
    let to = server.local_addr();
    assert_eq!(server.sockets().count(), 3);
    server.stop_one();
    for _ in 0..20 {
        assert_eq!(dial_tcp(to, &Dial::new()).name(), Some("many"));
    }
    assert_eq!((server.served(), server.served_each().len()), (20, 2));
    drop(server);
    assert_eq!(dial_tcp(to, &Dial::new()), Answer::Refused);
}

#[test]
fn interfaces_join_namespaces() {
    if !require_root() {
        return;
    }
    let here = Netns::new().unwrap();
    let there = Netns::unentered().unwrap();
    let one = End { namespace: &here, name: "inlet0", addresses: &["192.0.2.1/24", "2001:db8::1/64"] };
    let other = End { namespace: &there, name: "inlet1", addresses: &["192.0.2.2/24", "2001:db8::2/64"] };
    veth(one, other).unwrap();
    let _tcp = TcpServer::spawn("here", at("[::]:80")).unwrap();
    let _udp = UdpServer::spawn("here", at("[::]:80")).unwrap();
    let how = Dial::new().interface("inlet1").source_port(4000);
    there.enter(|| {
        for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
            assert_from(&dial_tcp(at(to), &how), "here", to);
            assert_from(&dial_udp(at(to), &how), "here", to);
        }
    });
}

#[test]
fn the_socket_table_knows_who_listens() {
    let Some(_world) = World::new() else { return };
    let _tcp = TcpServer::spawn("tcp", at("[::1]:80")).unwrap();
    let _udp = UdpServer::spawn("udp", at("0.0.0.0:53")).unwrap();
    wait_listening(Proto::Tcp, at("[::1]:80"), PATIENCE).unwrap();
    wait_listening(Proto::Udp, at("127.0.0.1:53"), PATIENCE).unwrap();
    assert!(!is_listening(Proto::Tcp, at("127.0.0.1:53")).unwrap());
    let error = wait_listening(Proto::Tcp, at("127.0.0.1:80"), SHORT).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
