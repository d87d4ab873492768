//! Sockets that are being drained, as readers see them: which they are, of which service, and what is left on each.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{anywhere, bind, here, open, selector, snapshot, state, up};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::Sticky;
use inlet::{Drained, Instance, Left, Listeners, ServiceRequest};
use inlet_testkit::{PATIENCE, Program, World};
use rustix::net::sockopt::socket_cookie;

const NAME: &str = "INLET_DRAINED";
const PREFIX: &str = "192.0.2.0/24";

/// The server that is drained: this same test program, with nothing but this test in it. It reads nothing and accepts
/// nothing.
#[test]
fn child() {
    if std::env::var_os(NAME).is_none() {
        return;
    }
    let (udp, tcp) = (UdpSocket::bind(anywhere()).unwrap(), TcpListener::bind(anywhere()).unwrap());
    println!("\nbound {} {}", socket_cookie(&udp).unwrap(), socket_cookie(&tcp).unwrap());
    // Until the test ends, whatever its end is.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts it. Its two cookies: over UDP and over TCP.
fn server() -> (Program, [u64; 2]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(NAME, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = Program::start(&mut command).unwrap();
    let mut lines = BufReader::new(program.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    let bound = lines.find(|line| line.starts_with("bound ")).unwrap();
    let cookies: Vec<u64> = bound.split(' ').skip(1).map(|cookie| cookie.parse().unwrap()).collect();
    (program, cookies.try_into().unwrap())
}

/// So many clients of both protocols, each at a port of its own.
fn clients(count: u16) -> Vec<(UdpSocket, TcpStream)> {
    let client = |number: u16| {
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.send_to(b"hello", ("192.0.2.7", 1000 + number)).unwrap();
        (udp, TcpStream::connect(("192.0.2.7", 1000 + number)).unwrap())
    };
    (0..count).map(client).collect()
}

/// An instance whose sticky service has the sockets of a program with so many clients, and then those given.
fn serving(world: &World, pid: u32, count: u16, udp: &UdpSocket, tcp: &TcpListener) -> Instance {
    world.local(PREFIX).unwrap();
    let mut instance = up(world);
    [Udp, Tcp].into_iter().for_each(|protocol| bind(&mut instance, "web", protocol, PREFIX, "any"));
    let request = ServiceRequest { sticky: Sticky::new(300), ..ServiceRequest::default() };
    instance.set_service(&"web".parse().unwrap(), request).unwrap();
    instance.register_process("web", pid, &[]).unwrap();
    drop(clients(count));
    instance.register("web", udp).unwrap();
    instance.register("web", tcp).unwrap();
    instance
}

/// The same for those that are drained, sorted by cookie: it, the service, flows and connections.
fn told(world: &World) -> Vec<(u64, Option<String>, usize, u32)> {
    let line = |Drained { socket, service, left }: Drained| {
        assert_eq!(left.youngest.is_some(), left.flows > 0);
        (socket.cookie, service.map(|name| name.to_string()), left.flows, left.connections)
    };
    let mut all: Vec<_> = snapshot(world).drained().unwrap().into_iter().map(line).collect();
    all.sort();
    all
}

#[test]
fn readers_are_told() {
    let Some(world) = World::new() else { return };
    let (mut program, [udp, tcp]) = server();
    let pid = program.id();
    let others = (UdpSocket::bind(anywhere()).unwrap(), TcpListener::bind(anywhere()).unwrap());
    let mut instance = serving(&world, pid, 5, &others.0, &others.1);
    drop(instance);
    assert_eq!(told(&world), []);
    instance = open(&world);
    let draining = instance.drain("web", pid).unwrap();
    let left = draining.left().unwrap();
    assert_eq!((left.flows, left.connections), (5, 5));
    drop(instance);
    let name = Some("web".to_owned());
    let mut expected = [(udp, name.clone(), 5, 0), (tcp, name, 0, 5)];
    expected.sort();
    assert_eq!(told(&world), expected);
    // New ones go to the others, and the numbers stay.
    let new = clients(20);
    for _ in &new {
        others.0.recv_from(&mut [0; 16]).unwrap();
        drop(others.1.accept().unwrap());
    }
    assert_eq!(told(&world), expected);

    let service = state(&world, "web");
    let mut its: Vec<u64> = service.drained.iter().map(|it| it.socket.cookie).collect();
    its.sort_unstable();
    assert_eq!(its, expected.each_ref().map(|(cookie, ..)| *cookie));
    assert!(service.drained.iter().all(|it| it.socket.owners.iter().any(|owner| owner.pid == pid)));
    assert!(service.sockets.iter().all(|it| ![udp, tcp].contains(&it.cookie)) && service.sockets.len() == 2);
    let listeners = Listeners::of(&here(&world), Some(&snapshot(&world))).unwrap().listeners;
    let drained = listeners.iter().filter(|it| it.drained.is_some() && it.service.is_none());
    let mut drained: Vec<u64> = drained.map(|it| it.socket.cookie).collect();
    drained.sort_unstable();
    assert_eq!(drained, its);
    assert_eq!(listeners.iter().filter(|it| it.service.is_some() && it.drained.is_none()).count(), 2);

    drop(program.child().stdin.take());
    let until = Instant::now() + PATIENCE;
    while !told(&world).is_empty() {
        assert!(Instant::now() < until, "{:?}", told(&world));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Its number may be another service's later.
#[test]
fn a_service_that_is_gone_has_none() {
    let Some(world) = World::new() else { return };
    let (program, cookies) = server();
    let others = (UdpSocket::bind(anywhere()).unwrap(), TcpListener::bind(anywhere()).unwrap());
    let mut instance = serving(&world, program.id(), 3, &others.0, &others.1);
    instance.drain("web", program.id()).unwrap();
    for protocol in [Tcp, Udp] {
        instance.unbind(&selector(protocol, PREFIX, "any")).unwrap();
    }
    instance.remove_service("web").unwrap();
    drop(instance);
    for name in ["one", "two", "three"] {
        bind(&mut open(&world), name, Tcp, PREFIX, "any");
        assert!(state(&world, name).drained.is_empty());
    }
    let mut drained = snapshot(&world).drained().unwrap();
    drained.sort_by_key(|it| it.socket.cookie);
    let mut expected = cookies;
    expected.sort_unstable();
    assert_eq!(drained.iter().map(|it| it.socket.cookie).collect::<Vec<_>>(), expected);
    assert!(drained.iter().all(|it| it.service.is_none()), "{drained:?}");
    // Flows that no rule leads there any more are no flows.
    let flows = |it: &Drained| it.left.flows;
    assert_eq!(drained.iter().map(flows).sum::<usize>(), 0);
    assert_eq!(drained.iter().map(|it| it.left.connections).sum::<u32>(), 3);
    assert!(!drained.iter().all(|it| it.left == Left::default()));
}
