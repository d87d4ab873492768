//! Answers over UDP leave from where they were asked, whatever the server is bound to. The servers here know nothing of
//! it, and the clients are strict: connected sockets, to which the kernel gives answers from the place asked alone.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod apart;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod devices;
mod elsewhere;
mod explicit;
mod forgotten;
mod handed;
mod later;
mod senders;

use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;

use common::{bind, snapshot, tree, tree_of_one, up};
use inlet::rules::{Answers, Protocol};
use inlet::{AnswersState, Instance, ServiceRequest};
use inlet_testkit::{End, Netns, PATIENCE, World, checksum_offload, note, segment, veth};

const PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];

/// A server that sends each datagram back to where it came from.
struct Echo {
    socket: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

const STOP: &[u8] = b"stop";

impl Echo {
    fn bound_to(addr: &str) -> Self {
        Self::with(addr, <[u8]>::to_vec)
    }

    /// The same with what it answers.
    fn with(addr: &str, answer: fn(&[u8]) -> Vec<u8>) -> Self {
        let socket = UdpSocket::bind(addr).unwrap();
        let server = socket.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            loop {
                let (len, from) = server.recv_from(&mut buffer).unwrap();
                if &buffer[..len] == STOP {
                    return;
                }
                server.send_to(&answer(&buffer[..len]), from).unwrap();
            }
        });
        Self { socket, thread: Some(thread) }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let mut at = self.socket.local_addr().unwrap();
        if at.ip().is_unspecified() {
            at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        let any: SocketAddr = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        UdpSocket::bind(any).unwrap().send_to(STOP, at).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// A client that takes answers from the place that it asked alone.
fn strict(target: &str) -> UdpSocket {
    let target: SocketAddr = target.parse().unwrap();
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn exchange(client: &UdpSocket, text: &[u8]) {
    let mut buffer = vec![0; 65536];
    client.send(text).unwrap();
    let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{:?}: {error}", client.peer_addr()));
    assert_eq!(&buffer[..len], text);
}

fn world() -> Option<World> {
    let world = World::new()?;
    PREFIXES.iter().for_each(|prefix| world.local(prefix).unwrap());
    Some(world)
}

fn serve(instance: &mut Instance, service: &str, echo: &Echo) {
    instance.register(service, &echo.socket).unwrap();
}

#[test]
fn whatever_the_server_is_bound_to() {
    let v4 = ["192.0.2.9", "192.0.2.77"];
    let v6 = ["[2001:db8::9]", "[2001:db8::7:7]"];
    for (bound, targets) in [
        ("127.0.0.1:0", v4.as_slice()),
        ("0.0.0.0:0", &v4),
        ("[::1]:0", &v6),
        ("[::]:0", &[v4[0], v6[0], v4[1], v6[1]]),
    ] {
        let Some(world) = world() else { return };
        let mut instance = up(&world);
        let echo = Echo::bound_to(bound);
        let own = echo.port().to_string();
        for prefix in PREFIXES {
            bind(&mut instance, "dns", Protocol::Udp, prefix, "53");
            bind(&mut instance, "dns", Protocol::Udp, prefix, "20000-29999");
            if !(20000..30000).contains(&echo.port()) {
                bind(&mut instance, "dns", Protocol::Udp, prefix, &own);
            }
        }
        serve(&mut instance, "dns", &echo);
        for target in targets {
            for port in ["53", "20000", "25000", "29999", &own] {
                let client = strict(&format!("{target}:{port}"));
                for text in ["one", "two", "three"] {
                    exchange(&client, text.as_bytes());
                }
            }
        }
    }
}

/// What is attached to interfaces and to the root of the control groups of ours, by the pins. A filter of kernels before
/// 6.6 counts as a link.
fn attached(world: &World) -> Vec<String> {
    let mut pins = tree(&common::here(world).dir());
    pins.retain(|pin| pin.starts_with("answers/"));
    pins.retain(|pin| ["send", "port", "filter"].iter().any(|name| pin["answers/".len()..].starts_with(name)));
    let mut pins: Vec<String> = pins.iter().map(|pin| pin.replace("filter-", "port-")).collect();
    pins.sort();
    pins
}

fn set_answers(instance: &mut Instance, service: &str, answers: Answers) {
    let request = ServiceRequest { answers: Some(answers), ..ServiceRequest::default() };
    instance.set_service(&service.parse().unwrap(), request).unwrap();
}

#[test]
fn nothing_is_attached_while_no_rule_needs_it() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    bind(&mut instance, "web", Protocol::Tcp, PREFIXES[0], "80");
    assert_eq!(attached(&world), [""; 0]);
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()));

    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53");
    let all = ["answers/port", "answers/port-1", "answers/send4", "answers/send6"];
    assert_eq!(attached(&world), all);

    // A described socket of the port that the rule has needs no other port.
    let description = inlet::rules::Description::new(["udp:127.0.0.1:53".parse().unwrap()]).unwrap();
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(&"dns".parse().unwrap(), request).unwrap();
    assert_eq!(attached(&world), ["answers/send4", "answers/send6"]);
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "5353");
    assert_eq!(attached(&world), all);

    set_answers(&mut instance, "dns", Answers::Bound);
    assert_eq!(attached(&world), [""; 0]);
    set_answers(&mut instance, "dns", Answers::Asked);
    assert_eq!(attached(&world), all);
    drop(instance);
    Instance::down(&common::here(&world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
}

#[test]
fn bound_answers_leave_from_the_socket() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let echo = Echo::bound_to("127.0.0.1:0");
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53");
    serve(&mut instance, "dns", &echo);
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = |client: &UdpSocket| {
        client.send_to(b"who", "192.0.2.9:53").unwrap();
        client.recv_from(&mut [0; 16]).unwrap().1.to_string()
    };
    assert_eq!(from(&client), "192.0.2.9:53");
    set_answers(&mut instance, "dns", Answers::Bound);
    assert_eq!(from(&client), format!("127.0.0.1:{}", echo.port()));
}

/// One client asks two addresses and ports from one port of its own, one after the other.
#[test]
fn each_answer_leaves_from_where_the_last_question_went() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    let echo = Echo::bound_to("0.0.0.0:0");
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "1000-10999");
    serve(&mut instance, "dns", &echo);
    drop(instance);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for hop in 0..10_000_u16 {
        let target: SocketAddr = ([192, 0, 2, hop as u8], 1000 + hop).into();
        client.send_to(b"hop", target).unwrap();
        assert_eq!(client.recv_from(&mut [0; 16]).unwrap().1, target);
    }
    let AnswersState::Asked { counters, uncovered, .. } = snapshot(&world).answers().unwrap() else { panic!() };
    assert_eq!(uncovered, [""; 0]);
    assert_eq!((counters.noted, counters.ambiguous, counters.unnoted), (1, 9_999, 0), "{counters:?}");
    assert_eq!(counters.addressed, 10_000);
}

/// So many bytes as the text says.
fn so_many(text: &[u8]) -> Vec<u8> {
    let count: usize = std::str::from_utf8(text).unwrap().parse().unwrap();
    (0..count).map(|at| at as u8).collect()
}

/// Sends of one datagram, of one that is cut into fragments and of several at once, over a veth pair whose receiving end checks
/// each checksum: with offload and without.
#[test]
fn checksums_and_fragments_over_veth() {
    let Some(world) = world() else { return };
    let outside = Netns::unentered().unwrap();
    let ends = [("inside", ["10.9.0.1/24", "2001:db8:9::1/64"]), ("outside", ["10.9.0.2/24", "2001:db8:9::2/64"])];
    let [server, client] = ends.each_ref().map(|(name, addresses)| (*name, addresses.as_slice()));
    veth(
        End { namespace: &world, name: server.0, addresses: server.1 },
        End { namespace: &outside, name: client.0, addresses: client.1 },
    )
    .unwrap();
    for (prefix, via) in PREFIXES.iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        outside.ip(&["route", "add", prefix, "via", via]).unwrap();
    }
    let mut instance = up(&world);
    let echo = Echo::with("[::]:0", so_many);
    let own = echo.port().to_string();
    for prefix in PREFIXES {
        bind(&mut instance, "dns", Protocol::Udp, prefix, "53");
        bind(&mut instance, "dns", Protocol::Udp, prefix, &own);
    }
    serve(&mut instance, "dns", &echo);
    drop(instance);
    for is_offloaded in [true, false] {
        checksum_offload(&world, "inside", is_offloaded).unwrap();
        for target in ["192.0.2.9", "[2001:db8::9]"] {
            for port in ["53", &own] {
                let client = outside.enter(|| strict(&format!("{target}:{port}")));
                let about = |bytes: usize| format!("{target}:{port}, {bytes} bytes, offload: {is_offloaded}");
                for bytes in [0, 1, 2, 63, 1000, 1400, 6000, 60_000] {
                    assert_eq!(asked_for(&client, bytes, &about(bytes)), so_many(bytes.to_string().as_bytes()));
                }
                if !can_segment(&world) {
                    note("this kernel segments nothing whose checksums the interface leaves to it");
                    continue;
                }
                segment(&echo.socket, 1000).unwrap();
                for bytes in [500, 1000, 1001, 10_000] {
                    let mut got = asked_for(&client, bytes, &about(bytes));
                    while got.len() < bytes {
                        let mut buffer = [0; 2048];
                        let more = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{}: {error}", about(bytes)));
                        got.extend(&buffer[..more]);
                    }
                    assert_eq!(got, so_many(bytes.to_string().as_bytes()));
                }
                segment(&echo.socket, 0).unwrap();
            }
        }
    }
}

/// Whether the kernel takes a send of several datagrams at once through the interface as it is: older ones do not where
/// the checksum is not left to the interface.
fn can_segment(world: &World) -> bool {
    let socket = world.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    segment(&socket, 1000).unwrap();
    match socket.send_to(&[0; 2000], "10.9.0.2:9") {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => false,
        sent => sent.unwrap() == 2000,
    }
}

/// The first datagram that comes for a question for so many bytes.
fn asked_for(client: &UdpSocket, bytes: usize, about: &str) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    client.send(bytes.to_string().as_bytes()).unwrap();
    let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{about}: {error}"));
    buffer.truncate(len);
    buffer
}
