//! The program in the kernel says of every packet what the specification says, on random rulesets.
//!
//! A test run takes no interface, so here packets come in on none; conditions on interfaces meet real packets in
//! `precedence.rs`, and random ones in the tests of the image in plain Rust. Marks are left for the program as its helper
//! in netfilter does; real ones are in `marks.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use common::marks::{hand_over, has_marks, slots};
use inlet::rules::arbitrary::{SERVICES, at_borders, crowded, history, with_packets};
use inlet::rules::image::Header;
use inlet::rules::{Builder, Match, OnMissing, Packet, Protocol, Rule, Ruleset, ServiceId, Sticky, Verdict, lookup};
use inlet::{
    Agreement, Answer, CommitOptions, Instance, Location, Netns, Outcome, Reply, ServiceRequest, Snapshot, Unasked,
    UpOptions,
};
use inlet_testkit::{Listen, TcpServer, UdpServer, World, rounds};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use proptest::test_runner::{Config, TestRunner};

/// Of how many packets the story is checked.
const EXPLAINED: usize = 100_000;

fn here(world: &World) -> Location {
    Location::new(world.bpffs.path(), Netns::own().unwrap())
}

/// All services but the last have a socket for each protocol, or none has.
#[derive(Default)]
struct Receivers {
    _tcp: Vec<TcpServer>,
    _udp: Vec<UdpServer>,
    cookies: HashMap<u64, (ServiceId, Protocol)>,
}

impl Receivers {
    fn register(instance: &mut Instance) -> Self {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let mut receivers = Self::default();
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

/// Random rulesets, each in force in turn, with random packets that come in on no interface.
#[allow(clippy::print_stdout, reason = "how long it took, for who asks")]
fn over_random_rulesets(rulesets: usize, packets: usize, each: impl Fn(&World, &Snapshot, &Receivers, &[Packet])) {
    let Some(world) = World::new() else { return };
    let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
    for number in 0..SERVICES {
        instance.set_service(&format!("service{number}").parse().unwrap(), ServiceRequest::default()).unwrap();
    }
    let receivers = Receivers::register(&mut instance);
    drop(instance);

    let wanted = std::env::var("INLET_RULESETS").ok().and_then(|n| n.parse().ok());
    let rulesets = wanted.unwrap_or(rulesets);
    let (started, asked) = (Instant::now(), Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: rulesets as u32,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let outcome = runner.run(&with_packets(60, packets), |(ruleset, mut packets)| {
        packets.iter_mut().for_each(|packet| packet.ifindex = 0);
        let mut instance = Instance::open(here(&world)).unwrap();
        // The numbers of a random ruleset are those of the instance, as both name the services in the same order. Its
        // interfaces do not exist here.
        instance.commit(undescribed(ruleset).finish().unwrap(), &CommitOptions::default()).unwrap();
        drop(instance);
        each(&world, &Snapshot::open(here(&world)).unwrap(), &receivers, &packets);
        asked.set(asked.get() + packets.len());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} packets over {rulesets} rulesets agree, {:?}", asked.get(), started.elapsed());
    assert!(asked.get() >= rulesets * packets);
}

/// A builder of the ruleset with services whose sockets are said by hand, and without marks where there are none.
fn undescribed(ruleset: Ruleset) -> Builder {
    let services: Vec<ServiceId> = ruleset.services().iter().map(|(id, _)| id).collect();
    let is_left_out = |matching: &Match| matching.mark.is_some() && !has_marks();
    let udp = |rule: &Rule| rule.matching.protocol == Protocol::Udp && !is_left_out(&rule.matching);
    let with_udp: Vec<Verdict> = ruleset.rules().filter(udp).map(|rule| rule.verdict).collect();
    let marked: Vec<Match> = ruleset.rules().map(|rule| rule.matching).filter(is_left_out).collect();
    let mut builder = Builder::from_ruleset(ruleset);
    for id in services {
        builder.set_description(id, None);
        if !with_udp.contains(&Verdict::Service(id)) {
            builder.set_sticky(id, Sticky::default());
        }
    }
    for matching in &marked {
        builder.remove(matching);
    }
    builder
}

/// In the first 300 rulesets the story that `inlet explain` tells is checked too: its rule is the specification's, its
/// end what the rule and the sockets that there are lead to, and the live program agrees with it.
#[test]
fn program_specification_and_explain_agree() {
    let explained = Cell::new(0);
    over_random_rulesets(rounds(500, 25), 420, |world, snapshot, receivers, packets| {
        agree(world, snapshot, receivers, packets);
        if explained.get() < EXPLAINED {
            explain_agrees(snapshot, receivers, &packets[..334]);
            explained.set(explained.get() + 334);
        }
    });
}

/// Rulesets that come one from the other by few changes, so that most of each image is that of the one before.
#[test]
fn successors_agree() {
    let Some(world) = World::new() else { return };
    let mut runner = TestRunner::new(Config {
        cases: rounds(3, 1) as u32,
        failure_persistence: None,
        max_shrink_iters: 20,
        ..Config::default()
    });
    let (commits, kept) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&history(1600, 10, 600), |(rulesets, mut packets)| {
        packets.iter_mut().for_each(|packet| packet.ifindex = 0);
        let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
        for ruleset in rulesets {
            let generation =
                instance.commit(undescribed(ruleset).finish().unwrap(), &CommitOptions::default()).unwrap().generation;
            drop(instance);
            agree(&world, &Snapshot::open(here(&world)).unwrap(), &Receivers::default(), &packets);
            commits.set(commits.get() + 1);
            kept.set(kept.get() + u32::from(is_kept(&world, generation)));
            instance = Instance::open(here(&world)).unwrap();
        }
        drop(instance);
        Instance::down(&here(&world)).unwrap();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(kept.get() > commits.get() / 10, "{} of {}", kept.get(), commits.get());
}

/// Whether most of the image of a generation is of one before it.
fn is_kept(world: &World, generation: u64) -> bool {
    let image = here(world).dir().join(format!("gen-{generation}/image"));
    let map = MapHandle::from_pinned_path(image).unwrap();
    let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let words: Vec<u32> = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
    let header = Header::decode(&words).unwrap();
    header.search_words > header.whole_words
}

/// What is rare in random rulesets: searches on all levels, and what is bisected.
#[test]
fn crowded_places_agree() {
    let Some(world) = World::new() else { return };
    let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
    instance.commit(Builder::from_ruleset(crowded()).finish().unwrap(), &CommitOptions::default()).unwrap();
    drop(instance);
    let snapshot = Snapshot::open(here(&world)).unwrap();
    agree(&world, &snapshot, &Receivers::default(), &at_borders(snapshot.ruleset(), 23));
}

fn agree(world: &World, snapshot: &Snapshot, receivers: &Receivers, packets: &[Packet]) {
    let (program, slots) = (snapshot.program().unwrap(), slots(world));
    for packet in packets {
        slots.iter().for_each(|slots| hand_over(slots, packet));
        let Reply::Answer(answer) = program.run(packet).unwrap() else { panic!("{packet:?}") };
        match receivers.expected(snapshot.ruleset(), packet) {
            Expected::Is(expected) => assert_eq!(answer, expected, "{packet:?}"),
            Expected::SocketOf(id) => {
                let Answer::Socket(cookie) = answer else { panic!("{packet:?}: {answer:?}, not {id:?}") };
                assert_eq!(receivers.cookies.get(&cookie), Some(&(id, packet.protocol)), "{packet:?}");
            }
        }
    }
}

fn explain_agrees(snapshot: &Snapshot, receivers: &Receivers, packets: &[Packet]) {
    let explainer = snapshot.explainer().unwrap();
    for packet in packets {
        let told = explainer.explain(packet).unwrap();
        assert_eq!(told.rule, lookup(snapshot.ruleset(), packet), "{packet:?}");
        let by_mark = told.contenders.iter().any(|it| it.rule.matching.mark.is_some());
        let live = if by_mark { Agreement::NotAsked(Unasked::Mark) } else { Agreement::Agrees };
        assert_eq!(told.live, live, "{packet:?}");
        let socket = told.socket.map(|socket| receivers.cookies[&socket.cookie]);
        match receivers.expected(snapshot.ruleset(), packet) {
            Expected::Is(Answer::Pass) => assert_eq!((told.outcome, socket), (Outcome::Pass, None), "{packet:?}"),
            Expected::Is(_) => assert_eq!((told.outcome, socket), (Outcome::Refuse, None), "{packet:?}"),
            Expected::SocketOf(id) => {
                assert_eq!((told.outcome, socket), (Outcome::Socket, Some((id, packet.protocol))), "{packet:?}");
            }
        }
    }
}
