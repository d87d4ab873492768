//! The tables of flows: one that is too small forgets flows and gives no wrong answer, and another size takes its place while
//! servers answer.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{bind, here, snapshot, told, tree, up};
use inlet::rules::{Protocol, Sticky};
use inlet::{AnswersState, FlowTable, Instance, ServiceRequest, UpOptions};
use inlet_testkit::{PATIENCE, World};
use rustix::process::{Resource, Rlimit, setrlimit};

const PREFIX: &str = "192.0.2.0/24";
const CLIENTS: u16 = 5000;

/// So many clients, each connected to a place of its own.
fn clients(count: u16) -> Vec<UdpSocket> {
    let client = |number: u16| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let [high, low] = number.to_be_bytes();
        socket.connect(SocketAddr::from(([192, 0, 2, low], 20_000 + u16::from(high)))).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    setrlimit(Resource::Nofile, Rlimit { current: Some(20_000), maximum: Some(20_000) }).unwrap();
    (0..count).map(client).collect()
}

/// All ask before the first one is answered. Gives who was: the kernel gives a connected socket only what comes from where it asked.
fn all_at_once(server: &UdpSocket, clients: &[UdpSocket]) -> Vec<bool> {
    let mut buffer = [0; 64];
    let mut remotes = Vec::new();
    for (client, number) in clients.iter().zip(0_u16..) {
        client.send(&number.to_be_bytes()).unwrap();
        let (len, remote) = server.recv_from(&mut buffer).unwrap();
        remotes.push((buffer[..len].to_vec(), remote));
    }
    for (text, remote) in &remotes {
        // A client that got an answer from elsewhere tells by ICMP that nobody is there: that is no matter of this send.
        while server.send_to(text, remote).is_err() {}
    }
    // Loopback delivers before the send returns.
    let got = |(client, number): (&UdpSocket, u16)| match client.recv(&mut [0; 64]) {
        Ok(2) => true,
        Ok(len) => panic!("{len} bytes for client {number}"),
        Err(error) => {
            assert!(
                [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::ConnectionRefused].contains(&error.kind()),
                "{error}"
            );
            false
        }
    };
    clients.iter().zip(0_u16..).map(got).collect()
}

fn table(world: &World) -> FlowTable {
    match snapshot(world).answers().unwrap() {
        AnswersState::Asked { table, .. } => table,
        other => panic!("{other:?}"),
    }
}

fn serving(world: &World, max_flows: u32) -> (Instance, UdpSocket) {
    let options = UpOptions { max_flows, ..UpOptions::default() };
    let mut instance = Instance::up(here(world), &options).unwrap();
    bind(&mut instance, "dns", Protocol::Udp, PREFIX, "20000-29999");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    instance.register("dns", &server).unwrap();
    (instance, server)
}

#[test]
fn a_table_that_is_too_small_forgets_and_gives_no_wrong_answer() {
    let Some(world) = World::new() else { return };
    world.local(PREFIX).unwrap();
    let (mut instance, server) = serving(&world, UpOptions::MIN_FLOWS);
    let clients = clients(CLIENTS);
    let answered = all_at_once(&server, &clients).iter().filter(|answered| **answered).count();
    drop(instance);
    let small = table(&world);
    println!("{answered} of {CLIENTS} answered with {small:?}");
    assert_eq!(small.max, UpOptions::MIN_FLOWS);
    assert!(small.flows <= u64::from(small.max));
    assert_eq!(small.flows + small.forgotten, u64::from(CLIENTS));
    assert!(answered as u64 <= small.flows, "{answered} answered, {small:?}");

    instance = common::open(&world);
    instance.set_max_flows(1 << 14).unwrap();
    // What was known is known still, and from now on all are.
    let kept: Vec<bool> = clients.iter().map(|client| client.recv(&mut [0; 64]).is_ok()).collect();
    assert!(!kept.contains(&true));
    drop(instance);
    assert_eq!(table(&world), FlowTable { max: 1 << 14, ..small });
    assert!(all_at_once(&server, &clients).iter().all(|answered| *answered));
    let large = table(&world);
    assert_eq!((large.flows, large.max), (u64::from(CLIENTS), 1 << 14));
    assert_eq!(tree(&here(&world).dir()).iter().filter(|pin| pin.contains("before")).count(), 0);
}

/// A flow that is known stays known, and where it is, when the tables get another size.
#[test]
fn another_size_keeps_flows() {
    let Some(world) = World::new() else { return };
    world.local(PREFIX).unwrap();
    let (mut instance, server) = serving(&world, 1 << 12);
    let request = ServiceRequest { sticky: Sticky::new(300), ..ServiceRequest::default() };
    instance.set_service(&"dns".parse().unwrap(), request).unwrap();
    let clients = clients(500);
    assert!(all_at_once(&server, &clients).iter().all(|answered| *answered));
    let others: Vec<UdpSocket> = (0..9).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    others.iter().for_each(|other| _ = instance.register("dns", other).unwrap());
    for size in [1 << 13, 1 << 11, 1 << 16] {
        let remotes: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        instance.set_max_flows(size).unwrap();
        // Without a question: only what was known before tells from where.
        remotes.iter().for_each(|remote| _ = server.send_to(b"ok", remote).unwrap());
        assert!(clients.iter().all(|client| client.recv(&mut [0; 64]).is_ok()), "{size}");
        assert!(all_at_once(&server, &clients).iter().all(|answered| *answered), "{size}");
    }
    drop(instance);
    let stays = snapshot(&world).stays().unwrap().unwrap();
    assert_eq!(stays, FlowTable { flows: 500, max: 1 << 16, forgotten: 0 });
}

#[test]
fn a_size_out_of_range_is_refused() {
    let Some(world) = World::new() else { return };
    for max_flows in [0, UpOptions::MIN_FLOWS - 1, UpOptions::MAX_FLOWS + 1] {
        let options = UpOptions { max_flows, ..UpOptions::default() };
        let error = Instance::up(here(&world), &options).unwrap_err();
        assert_eq!(told(&error), format!("--max-flows {max_flows} is out of range\nfix: give 1024 to 4194304"));
    }
    let mut instance = up(&world);
    let generation = instance.generation();
    assert!(instance.set_max_flows(3).is_err());
    assert_eq!((instance.generation(), instance.max_flows().unwrap()), (generation, UpOptions::default().max_flows));
}
