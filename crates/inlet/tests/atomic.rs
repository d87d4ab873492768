//! A commit is one step: whoever dials while rulesets take each other's place gets an answer that one of them alone
//! would give, and never a refusal where both steer.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what fails here is the failure of a test")]

mod common;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::{Receiver, Running, dial_with, here, open, patient, selector, snapshot, source, state, up, who};
use inlet::ApplyOptions;
use inlet::rules::Protocol::{self, Tcp, Udp};
use inlet_testkit::{World, rounds};

/// As many as INLET_SWAPS says in a soak.
fn swaps() -> usize {
    let asked = std::env::var("INLET_SWAPS").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or_else(|| rounds(1000, 50))
}

const A: &str = r#"
    {"to": "a", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": 80},
    {"to": "a", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": "81-89"},
    {"to": "a", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": 90}"#;

/// Steers the same by rules of another shape, and refuses part of it. Not the ports of clients: on loopback their
/// address is that of the server, and the answer to an unconnected UDP socket goes through the hook too.
const B: &str = r#"
    {"to": "b", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/25", "192.0.2.128/25"], "ports": "1-1023",
     "from": "0.0.0.0/0"},
    {"to": "b", "protocol": ["tcp", "udp"], "local": ["2001:db8::/63"], "ports": "80-89"},
    {"verdict": "refuse", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/64"], "ports": 90}"#;

fn ruleset(rules: &str) -> String {
    format!(r#"{{"services": {{"a": {{}}, "b": {{}}}}, "rules": [{rules}]}}"#)
}

/// So many rules more for other prefixes, each with ports of its own.
fn with_more(rules: &str, count: u32, ports: u32) -> String {
    let mut rules = rules.to_owned();
    for number in 0..count {
        let ([_, a, b, c], port) = (number.to_be_bytes(), ports + number % 7);
        write!(rules, r#",{{"to":"a","protocol":"tcp","local":"10.{a}.{b}.{c}","ports":{port}}}"#).unwrap();
    }
    ruleset(&rules)
}

/// What the threads that dial saw.
#[derive(Default)]
struct Seen {
    a: AtomicU64,
    b: AtomicU64,
}

impl Seen {
    fn both(&self) -> bool {
        self.a.load(Ordering::Relaxed) > 0 && self.b.load(Ordering::Relaxed) > 0
    }
}

/// Dials as long as rulesets are swapped. Both steer ports 80 to 89; only A steers port 90.
fn dial_all_along(protocol: Protocol, running: &Running, seen: &Seen) {
    let mut number: u8 = 0;
    while running.goes_on() {
        number = number % 250 + 1;
        let local: IpAddr = match number % 2 {
            0 => [192, 0, 2, number].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)].into(),
        };
        for port in [80, 85, 90] {
            match who(&dial_with(protocol, SocketAddr::new(local, port), &patient())).as_str() {
                "a" => seen.a.fetch_add(1, Ordering::Relaxed),
                "b" if port != 90 => seen.b.fetch_add(1, Ordering::Relaxed),
                "Refused" if port == 90 => 0,
                other => panic!("{protocol} {local} {port}: {other}"),
            };
        }
    }
}

fn world() -> Option<(World, [Receiver; 2])> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let mut instance = up(&world);
    instance.apply(source(&ruleset(A)), &ApplyOptions::default()).unwrap();
    let receivers = ["a", "b"].map(|name| Receiver::of(&mut instance, name));
    Some((world, receivers))
}

fn swap_under_traffic(world: &World, rulesets: [&str; 2], swaps: usize) {
    let mut instance = open(world);
    let first = instance.generation();
    instance.apply(source(rulesets[0]), &ApplyOptions::default()).unwrap();
    let (running, seen) = (Running::new(), [Seen::default(), Seen::default()]);
    let mut swapped = 0;
    thread::scope(|scope| {
        let _until_the_end = running.guard();
        let dialers = [(Tcp, &seen[0]), (Udp, &seen[1])].map(|(protocol, seen)| {
            let running = &running;
            scope.spawn(move || dial_all_along(protocol, running, seen))
        });
        // On a slow machine until every dialer has met both rulesets.
        while swapped < swaps || !seen.iter().all(Seen::both) {
            assert!(!dialers.iter().any(thread::ScopedJoinHandle::is_finished), "a dialer failed");
            swapped += 1;
            instance.apply(source(rulesets[swapped % 2]), &ApplyOptions::default()).unwrap();
        }
    });
    assert!(
        (first + swapped as u64..=first + swapped as u64 + 1).contains(&instance.generation()),
        "every swap is a generation"
    );
    drop(instance);
    for service in ["a", "b"] {
        let counters = state(world, service).counters;
        assert_eq!((counters.missed, counters.failed), (0, 0), "{service}");
    }
    let count = |seen: &Seen| (seen.a.load(Ordering::Relaxed), seen.b.load(Ordering::Relaxed));
    println!("{swapped} swaps; answers of a and b by tcp {:?}, by udp {:?}", count(&seen[0]), count(&seen[1]));
}

#[test]
fn dialers_see_one_ruleset_or_the_other() {
    let Some((world, _receivers)) = world() else { return };
    swap_under_traffic(&world, [&ruleset(A), &ruleset(B)], swaps());
}

#[test]
fn ten_thousand_rules_are_swapped_as_one() {
    let Some((world, _receivers)) = world() else { return };
    swap_under_traffic(&world, [&with_more(A, 10_000, 1000), &with_more(B, 10_000, 2000)], rounds(20, 6));
    assert_eq!(snapshot(&world).ruleset().len() / 10_000, 1);
}

/// A commit that fails at any stage leaves the ruleset in force as it is.
#[test]
fn a_commit_that_fails_changes_nothing() {
    let Some((world, _receivers)) = world() else { return };
    let mut instance = open(&world);
    let (generation, before) = (instance.generation(), instance.ruleset().unwrap().clone());
    for bad in [
        ruleset(r#"{"to": "c", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#),
        ruleset(r#"{"to": "a", "protocol": "tcp", "local": "192.0.2.1/24", "ports": 80}"#),
        ruleset(r#"{"to": "a", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80, "iface": "none7"}"#),
        ruleset(
            r#"{"to": "a", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "80-90"},
               {"to": "b", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "85-95"}"#,
        ),
        "{".to_owned(),
    ] {
        let error = instance.apply(source(&bad), &ApplyOptions::default()).unwrap_err();
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!((instance.generation(), instance.ruleset().unwrap()), (generation, &before), "{error}");
    }
    instance.unbind(&selector(Tcp, "192.0.2.0/24", "81-88")).unwrap_err();
    drop(instance);
    let read = snapshot(&world);
    assert_eq!((read.generation(), read.ruleset()), (generation, &before));
    assert_eq!(common::tree(&here(&world).dir()).iter().filter(|name| name.starts_with("gen-")).count(), 5);
}

/// A commit of what is in force already is none.
#[test]
fn the_same_ruleset_again_changes_nothing() {
    let Some((world, _receivers)) = world() else { return };
    let mut instance = open(&world);
    let generation = instance.generation();
    let committed = instance.apply(source(&ruleset(A)), &ApplyOptions::default()).unwrap();
    assert!(committed.plan.is_empty());
    assert_eq!((committed.generation, instance.generation()), (generation, generation));
}
