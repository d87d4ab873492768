//! The program in the kernel says of every packet what the specification says, on random rulesets.
//!
//! A test run takes no interface, so here packets come in on none; conditions on interfaces meet real packets in
//! `precedence.rs`, and random ones in the tests of the image in plain Rust.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use inlet::core::arbitrary::{SERVICES, with_packets};
use inlet::core::{Builder, OnMissing, Packet, Protocol, Ruleset, ServiceId, Verdict, lookup};
use inlet::{Answer, Instance, Location, Netns, Snapshot, UpOptions};
use inlet_testkit::{Listen, TcpServer, UdpServer, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const RULESETS: u32 = 500;
/// Under emulation everything takes many times as long.
const RULESETS_IN_VM: u32 = 60;
const PACKETS: usize = 420;

fn here(world: &World) -> Location {
    Location::new(world.bpffs.path(), Netns::own().unwrap())
}

/// All services but the last have a socket for each protocol.
struct Receivers {
    _tcp: Vec<TcpServer>,
    _udp: Vec<UdpServer>,
    cookies: HashMap<u64, (ServiceId, Protocol)>,
}

impl Receivers {
    fn register(instance: &mut Instance) -> Self {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let mut receivers = Self { _tcp: Vec::new(), _udp: Vec::new(), cookies: HashMap::new() };
        for number in 0..SERVICES - 1 {
            let name = format!("service{number}");
            let id = instance.ruleset().unwrap().services().id(&name).unwrap();
            let tcp = TcpServer::spawn_with(&name, any, Listen::new()).unwrap();
            let udp = UdpServer::spawn_with(&name, any, Listen::new()).unwrap();
            receivers.cookies.insert(instance.register(&name, &tcp).unwrap().cookie, (id, Protocol::Tcp));
            receivers.cookies.insert(instance.register(&name, &udp).unwrap().cookie, (id, Protocol::Udp));
            receivers._tcp.push(tcp);
            receivers._udp.push(udp);
        }
        receivers
    }

    fn expected(&self, ruleset: &Ruleset, packet: &Packet) -> Expected {
        let Some(rule) = lookup(ruleset, packet) else { return Expected::Is(Answer::Pass) };
        match rule.verdict {
            Verdict::Pass => Expected::Is(Answer::Pass),
            Verdict::Refuse => Expected::Is(Answer::Refuse),
            Verdict::Service(id) if self.cookies.values().any(|(service, _)| *service == id) => Expected::SocketOf(id),
            Verdict::Service(id) if ruleset.services().get(id).unwrap().on_missing == OnMissing::Pass => {
                Expected::Is(Answer::Pass)
            }
            Verdict::Service(_) => Expected::Is(Answer::Refuse),
        }
    }
}

#[derive(Debug)]
enum Expected {
    Is(Answer),
    SocketOf(ServiceId),
}

#[test]
fn program_and_specification_agree() {
    let Some(world) = World::new() else { return };
    let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
    for number in 0..SERVICES {
        instance.set_service(&format!("service{number}").parse().unwrap(), None).unwrap();
    }
    let receivers = Receivers::register(&mut instance);
    drop(instance);

    let rulesets = std::env::var("INLET_RULESETS").ok().and_then(|n| n.parse().ok());
    let rulesets = rulesets.unwrap_or(if std::env::var_os("INLET_VM").is_some() { RULESETS_IN_VM } else { RULESETS });
    let (started, asked) = (Instant::now(), Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: rulesets,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let outcome = runner.run(&with_packets(60, PACKETS), |(ruleset, mut packets)| {
        packets.iter_mut().for_each(|packet| packet.ifindex = 0);
        let mut instance = Instance::open(here(&world)).unwrap();
        // The numbers of a random ruleset are those of the instance, as both name the services in the same order. Its
        // interfaces do not exist here.
        instance.commit_as_is(Builder::from_ruleset(ruleset.clone())).unwrap();
        drop(instance);
        let program = Snapshot::open(here(&world)).unwrap().program().unwrap();
        for packet in &packets {
            let answer = program.run(packet).unwrap().unwrap();
            match receivers.expected(&ruleset, packet) {
                Expected::Is(expected) => prop_assert_eq!(answer, expected, "{:?}", packet),
                Expected::SocketOf(id) => {
                    let Answer::Socket(cookie) = answer else { panic!("{packet:?}: {answer:?}, not {id:?}") };
                    prop_assert_eq!(receivers.cookies.get(&cookie), Some(&(id, packet.protocol)), "{:?}", packet);
                }
            }
        }
        asked.set(asked.get() + packets.len());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} packets over {rulesets} rulesets agree, {:?}", asked.get(), started.elapsed());
    assert!(asked.get() >= rulesets as usize * PACKETS);
}
