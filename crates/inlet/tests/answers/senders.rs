//! Servers that answer by other sockets than those that receive, and clients that ask the host itself.

use std::net::{SocketAddr, UdpSocket};

use inlet::ServiceRequest;
use inlet::rules::{Description, Protocol};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{IpTransparent, ReuseAddr};

use crate::clients::{ENDS, gets, outside, port, rules, socket};
use crate::common::{bind, up};
use crate::{Echo, PREFIXES, attached, exchange, strict, world};

/// A socket bound to what was asked, which need not be an address of this host, as a transparent proxy makes one.
fn sender(asked: SocketAddr) -> UdpSocket {
    let family = if asked.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
    let socket = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None).unwrap();
    setsockopt(&socket, IpTransparent, &true).unwrap();
    setsockopt(&socket, ReuseAddr, &true).unwrap();
    rustix::net::bind(&socket, &asked).unwrap();
    socket.into()
}

/// What such a socket sends is an answer, and no question: whatever its client sends next goes by the rule. A rule for
/// several ports lets the answers to the host's own clients pass.
#[test]
fn a_client_asks_again_whom_a_socket_for_one_answer_answered() {
    let Some(world) = world() else { return };
    let outside = outside(&world);
    let mut instance = up(&world);
    let receiver = socket("::", 0);
    for prefix in PREFIXES {
        bind(&mut instance, "proxy", Protocol::Udp, prefix, "5000-6000");
    }
    instance.register("proxy", &receiver).unwrap();
    for (prefix, via) in PREFIXES.into_iter().zip(ENDS.map(|[own, _]| own)) {
        outside.ip(&["route", "add", prefix, "via", via]).unwrap();
    }
    for asked in ["192.0.2.9:5555", "[2001:db8::9]:5555"] {
        let client = outside.enter(|| strict(asked));
        for round in 0..3 {
            let text = format!("{asked} {round}");
            client.send(text.as_bytes()).unwrap();
            let mut buffer = [0; 64];
            let (len, from) = receiver.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{text}: {error}"));
            // As a socket of one family has it.
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            sender(asked.parse().unwrap()).send_to(&buffer[..len], from).unwrap();
            let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(&buffer[..len], text.as_bytes());
        }
    }
}

/// The address of no host means this one: the kernel puts it there after the programs for sends.
#[test]
fn a_client_of_the_host_sends_to_any_address() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let service = socket("::", 0);
    for prefix in ["127.0.0.0/8", "::1"] {
        bind(&mut instance, "all", Protocol::Udp, prefix, "1024-65535");
    }
    rules(&mut instance, "all", "1024-65535");
    instance.register("all", &service).unwrap();
    // An IPv4 socket with an address sends to that, any other one to the first of the loopback's.
    let all = [
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.5", "127.0.0.5"),
        ("::", "::", "::1"),
        ("::", "::1", "::1"),
    ];
    for (number, (any, bound, local)) in (0..).zip(all) {
        // Ports below those of the rules.
        let server = socket(local, 900 + number);
        let client = socket(bound, 0);
        gets(&client, SocketAddr::new(any.parse().unwrap(), port(&server)), &server, "question");
        gets(&server, SocketAddr::new(local.parse().unwrap(), port(&client)), &client, "answer");
    }
}

/// A service that is described has a socket at another port, registered by hand: its answers have the port asked, too.
#[test]
fn a_socket_by_hand_beside_a_description() {
    for listen in ["udp:127.0.0.1:53", "tcp:127.0.0.1:53"] {
        let Some(world) = world() else { return };
        let mut instance = up(&world);
        PREFIXES.iter().for_each(|prefix| bind(&mut instance, "dns", Protocol::Udp, prefix, "53"));
        let described = |description| ServiceRequest { description: Some(description), ..ServiceRequest::default() };
        let description = Description::new([listen.parse().unwrap()]).unwrap();
        let name = "dns".parse().unwrap();
        instance.set_service(&name, described(Some(description.clone()))).unwrap();
        assert_eq!(attached(&world), ["answers/send4", "answers/send6"]);
        let echo = Echo::bound_to("[::]:0");
        let all = ["answers/port", "answers/port-1", "answers/send4", "answers/send6"];
        let answers = || {
            for target in ["192.0.2.9:53", "[2001:db8::9]:53"] {
                exchange(&strict(target), b"which port");
            }
        };
        instance.register("dns", &echo.socket).unwrap();
        assert_eq!(attached(&world), all, "{listen}");
        answers();
        // And when the description comes after the socket.
        instance.set_service(&name, described(None)).unwrap();
        instance.set_service(&name, described(Some(description))).unwrap();
        assert_eq!(attached(&world), all, "{listen}");
        answers();
        // With the next commit after it is gone, nothing needs it any more.
        instance.unregister("dns", None).unwrap();
        bind(&mut instance, "web", Protocol::Tcp, PREFIXES[0], "80");
        assert_eq!(attached(&world), ["answers/send4", "answers/send6"]);
    }
}
