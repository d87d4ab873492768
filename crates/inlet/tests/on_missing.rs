//! What happens to packets of a service without a live socket, and that each packet is counted once and where it
//! belongs.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::SocketAddr;

use common::{Receiver, asked, bind, open, selector, snapshot, state, up, wait_for_sockets};
use inlet::Counters;
use inlet::ServiceRequest;
use inlet::rules::{OnMissing, Protocol, Target};
use inlet_testkit::{Listen, TcpServer, UdpServer, World};

/// Each protocol and family with a prefix and a target in it.
const CASES: [(Protocol, &str, &str); 4] = [
    (Protocol::Tcp, "192.0.2.0/24", "192.0.2.9:80"),
    (Protocol::Udp, "192.0.2.0/24", "192.0.2.9:80"),
    (Protocol::Tcp, "2001:db8::/64", "[2001:db8::9]:80"),
    (Protocol::Udp, "2001:db8::/64", "[2001:db8::9]:80"),
];

fn world() -> Option<World> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    Some(world)
}

/// The host's own server of a target.
fn own(protocol: Protocol, target: &str) -> (Option<TcpServer>, Option<UdpServer>) {
    let (addr, how): (SocketAddr, Listen) = (target.parse().unwrap(), Listen::new().freebind());
    match protocol {
        Protocol::Tcp => (Some(TcpServer::spawn_with("own", addr, how).unwrap()), None),
        Protocol::Udp => (None, Some(UdpServer::spawn_with("own", addr, how).unwrap())),
    }
}

#[test]
fn refuse_is_the_default_and_nobody_else_receives() {
    let Some(world) = world() else { return };
    for (number, (protocol, prefix, target)) in CASES.into_iter().enumerate() {
        let service = format!("service{number}");
        let mut instance = if number == 0 { up(&world) } else { open(&world) };
        let _own = own(protocol, target);
        bind(&mut instance, &service, protocol, prefix, "80");
        drop(instance);
        for _ in 0..3 {
            assert_eq!(asked(protocol, target), "Refused", "{protocol} {target}");
        }
        let mut counters = Counters { missed: 3, refused: 3, ..Counters::default() };
        assert_eq!(state(&world, &service).counters, counters, "{protocol} {target}");
        // The same after a socket came and went.
        let receiver = Receiver::of(&mut open(&world), &service);
        assert_eq!(asked(protocol, target), service);
        drop(receiver);
        wait_for_sockets(&world, &service, 0);
        assert_eq!(asked(protocol, target), "Refused", "{protocol} {target}");
        counters = Counters { steered: 1, missed: 4, refused: 4, ..counters };
        assert_eq!(state(&world, &service).counters, counters, "{protocol} {target}");
    }
}

#[test]
fn pass_leaves_it_to_the_ordinary_lookup() {
    let Some(world) = world() else { return };
    for (number, (protocol, prefix, target)) in CASES.into_iter().enumerate() {
        let service = format!("service{number}");
        let mut instance = if number == 0 { up(&world) } else { open(&world) };
        instance
            .set_service(
                &service.parse().unwrap(),
                ServiceRequest { on_missing: Some(OnMissing::Pass), ..ServiceRequest::default() },
            )
            .unwrap();
        bind(&mut instance, &service, protocol, prefix, "80");
        drop(instance);
        assert_eq!(asked(protocol, target), "Refused", "nobody listens: {protocol} {target}");
        let _own = own(protocol, target);
        assert_eq!(asked(protocol, target), "own", "{protocol} {target}");
        let receiver = Receiver::of(&mut open(&world), &service);
        assert_eq!(asked(protocol, target), service);
        drop(receiver);
        wait_for_sockets(&world, &service, 0);
        assert_eq!(asked(protocol, target), "own", "{protocol} {target}");
        let counters = Counters { steered: 1, missed: 3, ..Counters::default() };
        assert_eq!(state(&world, &service).counters, counters, "{protocol} {target}");
    }
}

/// The policy is part of the ruleset: a change is a commit like any other, and keeps sockets and counters.
#[test]
fn the_policy_changes_under_live_traffic() {
    let Some(world) = world() else { return };
    let _own = own(Protocol::Tcp, "192.0.2.9:80");
    bind(&mut up(&world), "web", Protocol::Tcp, "192.0.2.0/24", "80");
    for (policy, answer) in [(OnMissing::Pass, "own"), (OnMissing::Refuse, "Refused"), (OnMissing::Pass, "own")] {
        let before = snapshot(&world).generation();
        open(&world)
            .set_service(
                &"web".parse().unwrap(),
                ServiceRequest { on_missing: Some(policy), ..ServiceRequest::default() },
            )
            .unwrap();
        assert_eq!(snapshot(&world).generation(), before + 1);
        assert_eq!(asked(Protocol::Tcp, "192.0.2.9:80"), answer);
    }
    assert_eq!(state(&world, "web").counters, Counters { missed: 3, refused: 1, ..Counters::default() });
}

/// Rules without a service are counted too, passed and refused apart; what no rule matches is not.
#[test]
fn plain_verdicts_are_counted() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    for (protocol, prefix, _) in CASES {
        instance.bind(&Target::Pass, &selector(protocol, prefix, "80")).unwrap();
        instance.bind(&Target::Refuse, &selector(protocol, prefix, "81")).unwrap();
    }
    drop(instance);
    for (passed, (protocol, _, target)) in (1..).zip(CASES) {
        let _own = own(protocol, target);
        let refused_target = target.replace(":80", ":81");
        let _unreached = own(protocol, &refused_target);
        assert_eq!(asked(protocol, target), "own");
        assert_eq!(asked(protocol, &refused_target), "Refused");
        assert_eq!(asked(protocol, &refused_target), "Refused");
        assert_eq!(asked(protocol, &target.replace(":80", ":82")), "Refused", "nobody listens");
        assert_eq!(snapshot(&world).plain_counters().unwrap(), (passed, 2 * passed));
    }
}
