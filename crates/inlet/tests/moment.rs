//! No refused moment: while rulesets, descriptions and local routes change, every packet gets to a service that is meant, and none
//! to another program that listens there by itself.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Running, asked, open, selector, source, state, up};
use inlet::rules::Description;
use inlet::rules::Protocol::{self, Tcp, Udp};
use inlet::rules::config::Routes;
use inlet::{ApplyOptions, CommitOptions, ServiceRequest, Snapshot};
use inlet_testkit::{Listen, TcpServer, UdpServer, World, rounds};

/// How many listeners there are that no rule and no description means.
fn others() -> usize {
    rounds(3000, 500)
}

fn file(service: &str, port: u16, more: &str) -> String {
    format!(
        r#"{{"services": {{"{service}": {{"listen": ["tcp:[::]:{port}", "udp:[::]:{port}"]}}}},
            "rules": [{{"to": "{service}", "protocol": ["tcp", "udp"], "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": 80}}
            {more}]}}"#
    )
}

fn description(port: u16) -> Description {
    let listen = ["tcp", "udp"].map(|protocol| format!("{protocol}:[::]:{port}").parse().unwrap());
    Description::new(listen).unwrap()
}

/// Every kind of commit, one after the other. Each has rules for the same packets, which go to one of two servers.
fn commits(world: &World, round: usize) {
    let apply = |text: &str, options: &ApplyOptions| drop(open(world).apply(source(text), options).unwrap());
    let none = ApplyOptions::default();
    let now = CommitOptions::default();
    let [first, second] = [format!("first{round}"), format!("second{round}")];
    // A service that nobody knew, described, with its rules.
    apply(&file(&first, 7001, ""), &none);
    apply(&file(&second, 7002, ""), &none);
    // The way back, to a service whose sockets may have gone, and forth again.
    open(world).roll_back(&now).unwrap();
    open(world).roll_back(&now).unwrap();
    // Rules one by one, to a service that is made by that.
    let mut instance = open(world);
    for protocol in [Tcp, Udp] {
        for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
            let listen = format!("{protocol}:[::]:7001").parse().unwrap();
            instance.bind_to(listen, &selector(protocol, prefix, "80")).unwrap();
        }
    }
    drop(instance);
    // Other sockets for the same service.
    apply(&file(&first, 7001, ""), &none);
    let request = ServiceRequest { description: Some(Some(description(7002))), ..ServiceRequest::default() };
    open(world).set_service(&first.parse().unwrap(), request).unwrap();
    // A ruleset that is not confirmed, and goes.
    let mut instance = open(world);
    let new = instance.parse(source(&file(&second, 7001, ""))).unwrap().ruleset;
    instance.commit(new, &CommitOptions { confirm_within: Some(Duration::from_nanos(1)), ..now }).unwrap();
    drop(instance);
    assert!(open(world).went_back_from().is_some());
    // Local routes for one more prefix come and go.
    let routes = ApplyOptions { commit: CommitOptions { routes: Some(Routes::Manage), ..now }, ..none };
    let more = |prefix: &str| {
        format!(r#", {{"to": "{first}", "protocol": ["tcp", "udp"], "local": "{prefix}", "ports": 80}}"#)
    };
    for prefix in ["198.51.100.0/25", "198.51.100.0/24", "198.51.100.128/25"] {
        apply(&file(&first, 7001, &more(prefix)), &routes);
    }
    apply(
        &file(&second, 7002, ""),
        &ApplyOptions { commit: CommitOptions { routes: Some(Routes::Leave), ..now }, ..none },
    );
}

/// Who may answer: where the address is always local a server that is meant; else nobody may, either.
fn dial_all_along(
    bpffs: &Path,
    (protocol, target, is_always_local): (Protocol, &str, bool),
    running: &Running,
    count: &AtomicU64,
) {
    while running.goes_on() {
        let who = asked(protocol, target);
        let is_meant = ["one", "two"].contains(&who.as_str());
        let is_nobody = !is_always_local && who != "astray";
        // Which commit it was shows in the generation, and what Inlet made of the packet in the counters.
        let about = || {
            let now = Snapshot::open(common::at(bpffs)).unwrap();
            let counters = |it: inlet::ServiceState| format!("{} {:?}", it.name, it.counters);
            let services: Vec<String> = now.services().unwrap().into_iter().map(counters).collect();
            format!("{} answers, generation {}, {services:?}", count.load(Ordering::Relaxed), now.generation())
        };
        assert!(is_meant || is_nobody, "{protocol} {target}: {who} after {}", about());
        count.fetch_add(u64::from(is_meant), Ordering::Relaxed);
    }
}

#[test]
fn two_hundred_commits_of_every_kind_refuse_nobody() {
    let Some(world) = World::new() else { return };
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(files);
    rustix::process::setrlimit(files, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        world.local(prefix).unwrap();
    }
    drop(up(&world));
    let others: Vec<TcpListener> = (0..others()).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let server = |name: &str, port: u16| {
        let at = format!("[::]:{port}").parse().unwrap();
        (TcpServer::spawn(name, at).unwrap(), UdpServer::spawn(name, at).unwrap())
    };
    let servers = [("one", 7001), ("two", 7002)].map(|(name, port)| server(name, port));
    // It listens where packets would go without a rule.
    let wildcard = (
        TcpServer::spawn_with("astray", "[::]:80".parse().unwrap(), Listen::new()).unwrap(),
        UdpServer::spawn_with("astray", "[::]:80".parse().unwrap(), Listen::new()).unwrap(),
    );
    open(&world).apply(source(&file("zero", 7001, "")), &ApplyOptions::default()).unwrap();
    let running = Running::new();
    let targets = [
        (Tcp, "192.0.2.7:80", true),
        (Udp, "192.0.2.7:80", true),
        (Tcp, "[2001:db8::7]:80", true),
        (Udp, "[2001:db8::7]:80", true),
        (Tcp, "198.51.100.7:80", false),
        (Tcp, "198.51.100.200:80", false),
    ];
    let counts = targets.map(|_| AtomicU64::new(0));
    thread::scope(|scope| {
        let _until_the_end = running.guard();
        let dialers: Vec<_> = targets
            .iter()
            .zip(&counts)
            .map(|(target, count)| {
                let (bpffs, running) = (world.bpffs.path(), &running);
                scope.spawn(move || dial_all_along(bpffs, *target, running, count))
            })
            .collect();
        let some_none = || counts.iter().any(|count| count.load(Ordering::Relaxed) == 0);
        let mut round = 0;
        // On a slow machine until each has had an answer.
        while round < rounds(13, 1) || some_none() {
            assert!(!dialers.iter().any(thread::ScopedJoinHandle::is_finished), "a dialer failed");
            commits(&world, round);
            round += 1;
        }
    });
    assert_eq!((wildcard.0.served(), wildcard.1.served()), (0, 0), "packets that went astray");
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    println!("generation {}, answers {counts:?}", open(&world).generation());
    drop((others, servers));
}

/// A description moves from one service to another one in the same step: its socket goes with it.
#[test]
fn a_description_moves_to_another_service() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    drop(up(&world));
    let server = TcpServer::spawn("one", "[::]:7001".parse().unwrap()).unwrap();
    let file = |from: &str, to: &str| {
        format!(
            r#"{{"services": {{"a": {{"listen": "{from}"}}, "b": {{"listen": "{to}"}}}},
                "rules": [{{"to": "a", "protocol": "tcp", "local": "192.0.2.0/25", "ports": 80}},
                          {{"to": "b", "protocol": "tcp", "local": "192.0.2.128/25", "ports": 80}}]}}"#
        )
    };
    let [here_, there] = ["tcp:[::]:7001", "tcp:[::]:7009"];
    for (from, to, answers) in [(here_, there, ["one", "Refused"]), (there, here_, ["Refused", "one"])] {
        open(&world).apply(source(&file(from, to)), &ApplyOptions::default()).unwrap();
        assert_eq!(["192.0.2.7:80", "192.0.2.200:80"].map(|target| asked(Tcp, target)), answers);
        let count = |service| state(&world, service).sockets.len();
        assert_eq!((count("a"), count("b")), if answers[0] == "one" { (1, 0) } else { (0, 1) });
    }
    drop(server);
}
