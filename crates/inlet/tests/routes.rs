//! The local routes that Inlet keeps: made for the rules, removed with them, never those of others; and the process is
//! killed at every step of it. Needs root.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use common::{Receiver, asked, bind, here, selector, snapshot, source, told, up};
use inlet::rules::Protocol::Tcp;
use inlet::rules::config::Routes;
use inlet::rules::{Builder, PortRange, Prefix, Rule, Target, Verdict};
use inlet::{ApplyOptions, CommitOptions, Error, Instance, Location, Netns, RouteError, UpOptions};
use inlet_testkit::{Namespace, World};

/// A ruleset whose prefixes are all to be local, and an IPv6 one.
const RULES: &str = r#"{"services": {"web": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": ["192.0.2.0/24", "2001:db8:1::/64"], "ports": 80},
    {"verdict": "refuse", "protocol": "tcp", "local": "198.51.100.7", "ports": "any"},
    {"verdict": "pass", "protocol": "tcp", "local": "203.0.113.0/24", "ports": 22}]}"#;
const MADE: [&str; 3] = ["192.0.2.0/24", "198.51.100.7", "2001:db8:1::/64"];

/// The prefixes that are local by a route with this protocol number.
fn local(namespace: &Namespace, protocol: &str) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let said =
            namespace.ip(&[family, "route", "show", "table", "local", "type", "local", "protocol", protocol]).unwrap();
        found.extend(said.lines().filter_map(|line| line.split(' ').find(|word| *word != "local")).map(str::to_owned));
    }
    found
}

fn ours(namespace: &Namespace) -> Vec<String> {
    local(namespace, "73")
}

/// Inlet keeps the local routes.
const MANAGED: CommitOptions =
    CommitOptions { confirm_within: None, routes: Some(Routes::Manage), guard: false, expect_generation: None };

fn apply(instance: &mut Instance, text: &str) -> inlet::Result<inlet::Committed> {
    instance.apply(source(text), &ApplyOptions { commit: MANAGED, later: false })
}

fn texts(prefixes: &[Prefix]) -> Vec<String> {
    prefixes.iter().map(Prefix::to_string).collect()
}

#[test]
fn routes_come_and_go_with_the_rules() {
    let Some(world) = World::new() else { return };
    world.local("203.0.113.0/25").unwrap();
    let mut instance = up(&world);
    // What a file says counts as much as what the caller does.
    let committed =
        instance.apply(source(&RULES.replacen('{', r#"{"routes": "manage", "#, 1)), &ApplyOptions::default()).unwrap();
    assert!(committed.keeps_routes && committed.routes.removed.is_empty());
    assert_eq!(texts(&committed.routes.added), ["192.0.2.0/24", "198.51.100.7/32", "2001:db8:1::/64"]);
    assert_eq!(ours(&world), MADE);
    let _web = Receiver::of(&mut instance, "web");
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
    assert_eq!(asked(Tcp, "[2001:db8:1::9]:80"), "web");
    assert_eq!(asked(Tcp, "198.51.100.7:80"), "Refused");
    // Small changes keep them right, without being told.
    bind(&mut instance, "web", Tcp, "192.0.3.0/24", "80");
    bind(&mut instance, "web", Tcp, "192.0.2.7", "443");
    assert_eq!(ours(&world), ["192.0.2.0/23", "198.51.100.7", "2001:db8:1::/64"], "halves are joined");
    let removed = instance.unbind(&selector(Tcp, "192.0.2.0/24", "80")).unwrap().routes;
    assert_eq!(
        (texts(&removed.added), texts(&removed.removed)),
        (vec!["192.0.2.7/32".to_owned(), "192.0.3.0/24".to_owned()], vec!["192.0.2.0/23".to_owned()],)
    );
    assert_eq!(asked(Tcp, "192.0.3.9:80"), "web");
    drop(instance);
    assert!(snapshot(&world).keeps_routes());
    Instance::down(&here(&world)).unwrap();
    assert_eq!(ours(&world), [""; 0]);
    assert_eq!(local(&world, "3"), ["203.0.113.0/25"], "those of others stay");
}

#[test]
fn routes_of_others_are_respected() {
    let Some(world) = World::new() else { return };
    world.local("192.0.0.0/16").unwrap();
    world.local("198.51.100.7/32").unwrap();
    let mut instance = up(&world);
    assert_eq!(texts(&apply(&mut instance, RULES).unwrap().routes.added), ["2001:db8:1::/64"]);
    // One that is gone is replaced, at the next commit, whatever that changes.
    world.ip(&["route", "del", "local", "192.0.0.0/16"]).unwrap();
    let again = apply(&mut instance, RULES).unwrap();
    assert!(again.plan.is_empty());
    assert_eq!(texts(&again.routes.added), ["192.0.2.0/24"]);
    world.local("192.0.0.0/16").unwrap();
    assert_eq!(texts(&apply(&mut instance, RULES).unwrap().routes.removed), ["192.0.2.0/24"]);
    // No longer kept: ours go, with a generation of its own that says so.
    let ended = instance.apply(source(RULES), &ApplyOptions::default()).unwrap();
    assert!(!ended.keeps_routes && ended.plan.is_empty());
    assert_eq!((texts(&ended.routes.removed), ours(&world).len()), (vec!["2001:db8:1::/64".to_owned()], 0));
    assert_eq!(local(&world, "3"), ["192.0.0.0/16", "198.51.100.7"]);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "81");
    assert_eq!(ours(&world).len(), 0);
}

#[test]
fn a_route_that_cuts_the_host_off_is_refused() {
    let Some(world) = World::new() else { return };
    world.ip(&["link", "add", "d0", "type", "veth", "peer", "name", "d1"]).unwrap();
    world.ip(&["addr", "add", "10.1.0.1/16", "dev", "d0"]).unwrap();
    world.ip(&["link", "set", "d0", "up"]).unwrap();
    world.ip(&["link", "set", "d1", "up"]).unwrap();
    world.ip(&["addr", "add", "2001:db8:2::1/64", "dev", "d0", "nodad"]).unwrap();
    world.ip(&["route", "add", "172.16.0.0/12", "via", "10.1.0.254"]).unwrap();
    world.ip(&["route", "add", "default", "nexthop", "via", "10.1.0.253", "nexthop", "via", "10.1.0.252"]).unwrap();
    let mut instance = up(&world);
    apply(&mut instance, r#"{"rules": []}"#).unwrap();
    let mut refuse = |local: &str| instance.bind(&Target::Refuse, &selector(Tcp, local, "80"));
    for (prefix, because) in [
        ("10.1.0.0/16", "unicast 10.1.0.0/16 dev d0"),
        ("10.0.0.0/8", "unicast 10.1.0.0/16 dev d0"),
        ("172.16.0.0/12", "unicast 172.16.0.0/12 via 10.1.0.254 dev d0"),
        ("10.1.0.254", "unicast 172.16.0.0/12"),
        ("10.1.0.252", "unicast 0.0.0.0/0 via 10.1.0.253 via 10.1.0.252"),
        ("2001:db8:2::/64", "unicast 2001:db8:2::/64 dev d0"),
    ] {
        let error = refuse(prefix).unwrap_err();
        assert!(
            matches!(&error, Error::Route(RouteError::CutsOff { route, .. }) if route.starts_with(because)),
            "{prefix}: {error}"
        );
        assert!(told(&error).contains("ip route add local"), "{error}");
    }
    // All addresses: those that are local anyway. A part of a network: an address of ours in it.
    refuse("0.0.0.0/0").unwrap();
    refuse("10.1.0.7").unwrap();
    refuse("172.16.1.0/24").unwrap();
    assert_eq!(ours(&world), ["10.1.0.7", "172.16.1.0/24"]);
    // Two halves are everything.
    refuse("0.0.0.0/1").unwrap_err();
    world.ip(&["route", "flush", "table", "main"]).unwrap();
    refuse("0.0.0.0/1").unwrap();
    assert!(matches!(refuse("128.0.0.0/1").unwrap_err(), Error::Route(RouteError::CutsOff { .. })));
}

#[test]
fn a_million_hosts_are_few_routes_or_none() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    let hosts = |count: u32, step: u32| {
        let mut builder = Builder::new();
        for number in 0..count {
            let addr = std::net::Ipv4Addr::from_bits((100 << 24) + number * step);
            let rule = Rule::new(Tcp, std::net::IpAddr::from(addr).into(), PortRange::ANY, Verdict::Refuse);
            builder.push(&rule).unwrap();
        }
        builder.finish().unwrap()
    };
    instance.commit(hosts(1_000_000, 1), &MANAGED).unwrap();
    assert!(ours(&world).len() < 20, "{:?}", ours(&world));
    let before = ours(&world);
    let error = instance.commit(hosts(1_000_000, 2), &CommitOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::TooMany { count: 1_000_000, max: 10_000 })), "{error}");
    assert_eq!(ours(&world), before);
    // Once they are local otherwise, nothing is to be made.
    world.local("100.0.0.0/8").unwrap();
    instance.commit(hosts(1_000_000, 2), &CommitOptions::default()).unwrap();
    assert_eq!(ours(&world).len(), 0);
}

#[test]
fn routes_are_made_in_the_namespace_of_the_instance() {
    let Some(world) = World::new() else { return };
    let other = inlet_testkit::Netns::unentered().unwrap();
    let location = || Location::new(world.bpffs.path(), Netns::open(other.path().to_str().unwrap()).unwrap());
    let mut instance = Instance::up(location(), &UpOptions::default()).unwrap();
    apply(&mut instance, RULES).unwrap();
    drop(instance);
    assert_eq!((ours(&other), ours(&world).len()), (MADE.map(str::to_owned).to_vec(), 0));
    Instance::down(&location()).unwrap();
    assert_eq!(ours(&other).len(), 0);
}

#[test]
fn without_loopback_nothing_is_changed() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    world.ip(&["link", "set", "lo", "down"]).unwrap();
    let error = apply(&mut instance, RULES).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::LoopbackDown { .. })), "{error}");
    assert!(told(&error).ends_with("\nfix: ip link set lo up"));
    assert_eq!((instance.generation(), instance.keeps_routes()), (1, false));
    world.ip(&["link", "set", "lo", "up"]).unwrap();
    apply(&mut instance, RULES).unwrap();
    assert_eq!(ours(&world), MADE);
}

/// The process is killed at a step; the next command leaves what one that ran through would have left.
#[cfg(feature = "faults")]
mod killed {
    use super::*;
    use crate::common::open;

    #[test]
    fn child() {
        let Some((operation, bpffs)) = common::killed::operation() else { return };
        let here = || common::at(&bpffs);
        let open = || Instance::open(here()).unwrap();
        match operation.as_str() {
            "apply" => drop(apply(&mut open(), RULES).unwrap()),
            "leave" => {
                let mut instance = open();
                instance.apply(source(RULES), &ApplyOptions::default()).unwrap();
            }
            "unbind" => drop(open().unbind(&selector(Tcp, "192.0.2.0/24", "80")).unwrap()),
            "down" => Instance::down(&here()).unwrap(),
            other => panic!("{other}"),
        }
    }

    fn kill(world: &World, operation: &str, step: &str) {
        common::killed::killed(world, "killed::child", operation, step, None);
    }

    /// An instance whose routes are kept, with one of another beside them.
    fn kept() -> Option<World> {
        let world = World::new()?;
        world.local("203.0.113.0/25").unwrap();
        apply(&mut up(&world), RULES).unwrap();
        Some(world)
    }

    #[test]
    fn while_routes_are_made() {
        for step in ["commit:pin", "commit:pinned", "commit:swapped", "routes:added", "commit:retired"] {
            let Some(world) = World::new() else { return };
            drop(up(&world));
            kill(&world, "apply", step);
            // What was left is finished, or taken back, by who opens the instance to write.
            let mut instance = open(&world);
            let in_force = instance.ruleset().unwrap().len();
            assert_eq!(
                (instance.keeps_routes(), ours(&world).len()),
                (in_force > 0, if in_force > 0 { 3 } else { 0 }),
                "{step}"
            );
            assert_eq!(in_force, if step.starts_with("commit:pin") { 0 } else { 4 }, "{step}");
            apply(&mut instance, RULES).unwrap();
            assert_eq!(ours(&world), MADE, "{step}");
        }
    }

    #[test]
    fn while_routes_are_removed() {
        for (operation, steps) in [
            ("unbind", &["commit:pinned", "commit:swapped", "routes:removed"][..]),
            ("leave", &["commit:pinned", "commit:swapped", "routes:removed", "commit:retired"]),
        ] {
            for step in steps {
                let Some(world) = kept() else { return };
                kill(&world, operation, step);
                let mut instance = open(&world);
                let expected: &[&str] = match (operation, *step) {
                    // Routes that no rule needs any more go before the commit point.
                    (_, "commit:pinned" | "routes:removed") => &MADE,
                    ("unbind", _) => &MADE[1..],
                    _ => &[],
                };
                assert_eq!(ours(&world), expected, "{operation} {step}");
                assert_eq!(local(&world, "3"), ["203.0.113.0/25"]);
                assert_eq!(instance.keeps_routes(), !expected.is_empty(), "{operation} {step}");
                apply(&mut instance, RULES).unwrap();
                assert_eq!(ours(&world), MADE, "{operation} {step}");
            }
        }
    }

    #[test]
    fn while_the_instance_goes() {
        for step in ["down:withdrawn", "routes:removed", "routes:gone", "down:detached"] {
            let Some(world) = kept() else { return };
            kill(&world, "down", step);
            Instance::down(&here(&world)).unwrap();
            assert_eq!((ours(&world).len(), local(&world, "3")), (0, vec!["203.0.113.0/25".to_owned()]), "{step}");
            // The same when the next command starts anew.
            apply(&mut up(&world), RULES).unwrap();
            kill(&world, "down", step);
            drop(up(&world));
            assert_eq!(ours(&world).len(), 0, "{step}");
        }
    }
}
