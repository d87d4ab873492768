//! The host's own clients: a rule for several ports leaves them the answers to what they asked, and nothing else.

use std::net::{SocketAddr, UdpSocket};

use inlet::Instance;
use inlet::rules::{Answers, Protocol, Target};
use inlet_testkit::{End, Namespace, Netns, PATIENCE, World, veth};

use crate::common::{at, bind, killed, selector, up};
use crate::set_answers;

/// The address of the host that rules take, and the one of those whom clients ask.
pub(crate) const ENDS: [[&str; 2]; 2] = [["10.9.0.1", "10.9.0.2"], ["2001:db8:9::1", "2001:db8:9::2"]];
const ANY: [&str; 2] = ["0.0.0.0", "::"];

pub(crate) fn outside(world: &World) -> Namespace {
    let outside = Netns::unentered().unwrap();
    veth(
        End { namespace: world, name: "inside", addresses: &["10.9.0.1/24", "2001:db8:9::1/64"] },
        End { namespace: &outside, name: "outside", addresses: &["10.9.0.2/24", "2001:db8:9::2/64"] },
    )
    .unwrap();
    outside
}

pub(crate) fn socket(ip: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

fn is_silent(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let got = socket.recv(&mut [0; 64]);
    socket.set_nonblocking(false).unwrap();
    got.is_err()
}

/// Sends a datagram, which must get to a socket.
pub(crate) fn gets(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, text: &str) {
    from.send_to(text.as_bytes(), to).unwrap();
    let mut buffer = [0; 64];
    let len = at.recv(&mut buffer).unwrap_or_else(|error| panic!("{text}, {to}: {error}"));
    assert_eq!(&buffer[..len], text.as_bytes());
}

/// Sends a datagram, which must be refused.
fn is_refused(from: &UdpSocket, to: SocketAddr) {
    from.connect(to).unwrap();
    from.send(b"refuse").unwrap();
    let refused = from.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
}

/// Rules for ports of the address of the host.
pub(crate) fn rules(instance: &mut Instance, service: &str, ports: &str) {
    ENDS.iter().for_each(|[own, _]| bind(instance, service, Protocol::Udp, own, ports));
}

/// The same for a rule that refuses.
fn refuse(instance: &mut Instance, ports: &str) {
    for [own, _] in ENDS {
        instance.bind(&Target::Refuse, &selector(Protocol::Udp, own, ports)).unwrap();
    }
}

#[test]
fn they_keep_their_answers() {
    let Some(world) = World::new() else { return };
    let outside = outside(&world);
    let mut instance = up(&world);
    let service = socket("::", 0);
    rules(&mut instance, "all", "1-65535");
    instance.register("all", &service).unwrap();
    for answers in [Answers::Asked, Answers::Bound] {
        set_answers(&mut instance, "all", answers);
        for ([own, other], any) in ENDS.into_iter().zip(ANY) {
            for bound in [own, any] {
                let server = outside.enter(|| socket(other, 0));
                let client = socket(bound, 0);
                let client_at = SocketAddr::new(own.parse().unwrap(), port(&client));
                // Before the question, and from others after it, all goes by the rule.
                gets(&server, client_at, &service, "before");
                for text in ["one", "two"] {
                    gets(&client, server.local_addr().unwrap(), &server, "question");
                    gets(&server, client_at, &client, text);
                }
                let stranger = outside.enter(|| socket(other, 0));
                gets(&stranger, client_at, &service, "stranger");
                assert!(is_silent(&client) && is_silent(&service), "{bound}");
            }
        }
    }
}

/// Where rules refuse several ports, too.
#[test]
fn they_keep_answers_that_rules_refuse() {
    let Some(world) = World::new() else { return };
    let outside = outside(&world);
    let mut instance = up(&world);
    refuse(&mut instance, "1024-65535");
    for ([own, other], any) in ENDS.into_iter().zip(ANY) {
        for bound in [own, any] {
            let server = outside.enter(|| socket(other, 0));
            let client = socket(bound, 0);
            let client_at = SocketAddr::new(own.parse().unwrap(), port(&client));
            gets(&client, server.local_addr().unwrap(), &server, "question");
            gets(&server, client_at, &client, "answer");
            is_refused(&outside.enter(|| socket(other, 0)), client_at);
        }
    }
}

/// What a socket of a service sends by itself opens no way past the rules.
#[test]
fn a_service_is_no_client() {
    let Some(world) = World::new() else { return };
    let outside = outside(&world);
    let mut instance = up(&world);
    rules(&mut instance, "all", "1-65535");
    for ([own, other], any) in ENDS.into_iter().zip(ANY) {
        let (service, client) = (socket(any, 0), socket(any, 0));
        instance.register("all", &service).unwrap();
        let [first, second] = [0, 0].map(|port| outside.enter(|| socket(other, port)));
        gets(&service, first.local_addr().unwrap(), &first, "by itself");
        gets(&client, second.local_addr().unwrap(), &second, "question");
        refuse(&mut instance, "1-65535");
        let there = |socket: &UdpSocket| SocketAddr::new(own.parse().unwrap(), port(socket));
        gets(&second, there(&client), &client, "answer");
        is_refused(&first, there(&service));
        rules(&mut instance, "all", "1-65535");
    }
}

/// A port that has a rule of its own is one of servers.
#[test]
fn a_rule_for_one_port_takes_all() {
    let Some(world) = World::new() else { return };
    let outside = outside(&world);
    let mut instance = up(&world);
    let service = socket("::", 0);
    rules(&mut instance, "all", "1-65535");
    rules(&mut instance, "one", "5000");
    instance.register("one", &service).unwrap();
    for [own, other] in ENDS {
        let server = outside.enter(|| socket(other, 0));
        let client = socket(own, 5000);
        gets(&client, server.local_addr().unwrap(), &server, "question");
        gets(&server, client.local_addr().unwrap(), &service, "to the service");
        assert!(is_silent(&client));
    }
}

/// What the killed process runs: from now on a port of clients has a rule of its own.
#[test]
fn narrowing_child() {
    let Some((own, bpffs)) = killed::operation() else { return };
    let mut instance = Instance::open(at(&bpffs)).unwrap();
    instance.bind(&Target::Refuse, &selector(Protocol::Udp, &own, "1500")).unwrap();
}

/// Until its commit point a change takes no answer that the rules in force let pass.
#[cfg(feature = "faults")]
#[test]
fn a_change_on_its_way_takes_no_answers() {
    for step in ["commit:staged", "commit:pinned"] {
        let Some(world) = World::new() else { return };
        let outside = outside(&world);
        refuse(&mut up(&world), "1024-65535");
        for [own, other] in ENDS {
            let server = outside.enter(|| socket(other, 0));
            let client = socket(own, 1500);
            let client_at = client.local_addr().unwrap();
            gets(&client, server.local_addr().unwrap(), &server, "question");
            killed::killed(&world, "clients::narrowing_child", own, step, None);
            gets(&server, client_at, &client, "answer");
            gets(&client, server.local_addr().unwrap(), &server, "another");
            gets(&server, client_at, &client, "another answer");
        }
        let mut instance = crate::common::open(&world);
        refuse(&mut instance, "1500");
        for [own, other] in ENDS {
            let server = outside.enter(|| socket(other, 0));
            let client = socket(own, 1500);
            gets(&client, server.local_addr().unwrap(), &server, "question");
            is_refused(&server, client.local_addr().unwrap());
        }
    }
}
