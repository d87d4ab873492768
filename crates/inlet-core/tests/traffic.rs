//! The traffic that a change moves is exactly the packets whose answer differs, each named once.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use inlet_core::arbitrary::{INTERFACES, marks_of, pair, pair_with_packets};
use inlet_core::{
    AddrRange, Builder, Marks, Moved, OnMissing, Packet, Plan, Prefix, Protocol, Rule, Ruleset, Verdict, lookup,
    traffic, traffic_at, traffic_to,
};
use proptest::prelude::*;

fn all(old: &Ruleset, new: &Ruleset) -> Vec<Moved> {
    let mut found = Vec::new();
    traffic(old, new, &Plan::between(old, new), &mut |moved| {
        found.push(moved);
        ControlFlow::Continue(())
    });
    found
}

/// An answer by name.
fn answer(ruleset: &Ruleset, rule: Option<Rule>) -> Option<String> {
    rule.map(|rule| ruleset.service_name(rule.verdict).unwrap_or_else(|| rule.verdict.as_str()).to_owned())
}

/// The packet is in one box exactly when its answer differs, with the rules that the specification gives.
fn check(old: &Ruleset, new: &Ruleset, moved: &[Moved], packet: &Packet) {
    let (before, after) = (lookup(old, packet), lookup(new, packet));
    let boxes: Vec<&Moved> = moved.iter().filter(|moved| moved.contains(packet)).collect();
    let expected = usize::from(answer(old, before) != answer(new, after));
    assert_eq!(boxes.len(), expected, "{packet:?}: {before:?} {after:?} {boxes:?}");
    for moved in boxes {
        assert_eq!((moved.previous, moved.new), (before, after), "{packet:?}");
    }
}

/// The packet of a box that is first in all respects, and the one that is last.
fn corners(moved: &Moved) -> [Packet; 2] {
    let everywhere: AddrRange = match moved.local.first() {
        IpAddr::V4(_) => "0.0.0.0/0".parse::<Prefix>().unwrap().into(),
        IpAddr::V6(_) => "::/0".parse::<Prefix>().unwrap().into(),
    };
    let source = moved.source.unwrap_or(everywhere);
    let mut indexes = (0..=INTERFACES).filter(|index| moved.arrival.contains(*index));
    let (first, last) = (indexes.next().unwrap(), indexes.next_back());
    let packet = |local: IpAddr, port: u16, remote: IpAddr, ifindex: u32| Packet {
        protocol: moved.protocol,
        local: SocketAddr::new(local, port),
        remote: SocketAddr::new(remote, 4711),
        ifindex,
        mark: match &moved.marks {
            Marks::Any => Some(u32::from(port)),
            Marks::Of(mark) => Some(mark.value() | !mark.mask() & u32::from(port)),
            Marks::NotOf(_) => None,
        },
    };
    [
        packet(moved.local.first(), moved.ports.first(), source.first(), first),
        packet(moved.local.last(), moved.ports.last(), source.last(), last.unwrap_or(first)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn sampled_packets_move_as_named((old, new, packets) in pair_with_packets(60, 400)) {
        let moved = all(&old, &new);
        packets.iter().for_each(|packet| check(&old, &new, &moved, packet));
        moved.iter().flat_map(corners).for_each(|packet| check(&old, &new, &moved, &packet));
    }

    /// A box has no packet that another one has, and none that it does not name is missing from a plan.
    #[test]
    fn what_moves_is_caused_by_a_change((old, new) in pair(60)) {
        let moved = all(&old, &new);
        let plan = Plan::between(&old, &new);
        prop_assert!(all(&old, &old).is_empty());
        if plan.rules.is_empty() && old.interfaces() == new.interfaces() {
            prop_assert!(moved.is_empty());
        }
        let moves_back = all(&new, &old);
        prop_assert_eq!(moved.len(), moves_back.len());
        for (there, back) in moved.iter().zip(&moves_back) {
            prop_assert_eq!(&Moved { previous: back.new, new: back.previous, ..back.clone() }, there);
        }
    }

    /// What is asked for in part is what the whole says of it.
    #[test]
    fn a_part_is_of_the_whole((old, new, packets) in pair_with_packets(40, 200)) {
        let at_80 = |packet: &Packet| Packet { protocol: Protocol::Tcp, local: SocketAddr::new(packet.local.ip(), 80), ..*packet };
        let mut at_port = Vec::new();
        let _ = traffic_at(&old, &new, Protocol::Tcp, 80, &mut |moved| {
            at_port.push(moved);
            ControlFlow::Continue(())
        });
        packets.iter().map(at_80).for_each(|packet| check(&old, &new, &at_port, &packet));
        prop_assert!(at_port.iter().all(|moved| moved.protocol == Protocol::Tcp && moved.ports.to_string() == "80"));
    }

    /// What is asked for some prefixes is what the whole says of them, and nothing about others.
    #[test]
    fn prefixes_are_looked_at_alone((old, new, packets) in pair_with_packets(40, 400), every in 1_usize..5) {
        let plan = Plan::between(&old, &new);
        let prefixes: Vec<Prefix> = plan.rules.iter().step_by(every).map(|change| change.matching().local).collect();
        check_prefixes(&old, &new, &prefixes, &packets);
    }
}

/// [`traffic_to`] says of packets to these prefixes what the specification says, and nothing of others.
fn check_prefixes(old: &Ruleset, new: &Ruleset, prefixes: &[Prefix], packets: &[Packet]) {
    let mut found = Vec::new();
    traffic_to(old, new, &Plan::between(old, new), prefixes.to_vec(), &mut |moved| {
        found.push(moved);
        ControlFlow::Continue(())
    });
    let is_asked = |addr: IpAddr| prefixes.iter().any(|prefix| prefix.contains(addr));
    packets.iter().filter(|packet| is_asked(packet.local.ip())).for_each(|packet| check(old, new, &found, packet));
    for moved in &found {
        let within = |prefix: &Prefix| moved.local.intersection(&(*prefix).into()) == Some(moved.local);
        assert!(prefixes.iter().any(within), "{moved:?}");
        corners(moved).iter().for_each(|packet| check(old, new, &found, packet));
    }
}

fn next(addr: IpAddr, up: bool) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => {
            let bits = addr.to_bits();
            if up { bits.checked_add(1) } else { bits.checked_sub(1) }.map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            if up { bits.checked_add(1) } else { bits.checked_sub(1) }.map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// The ends of a prefix and their neighbours outside.
fn borders(prefix: Prefix) -> impl Iterator<Item = IpAddr> {
    let range = AddrRange::from(prefix);
    let outside = [next(range.first(), false), next(range.last(), true)];
    [range.first(), range.last()].into_iter().chain(outside.into_iter().flatten())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    /// Every combination of borders of addresses, ports, sources, interfaces and marks: between them nothing can
    /// change.
    #[test]
    fn a_walk_over_all_borders_agrees_with_the_specification((old, new) in pair(7)) {
        let moved = all(&old, &new);
        let rules: Vec<Rule> = old.rules().chain(new.rules()).collect();
        let locals: BTreeSet<IpAddr> = rules.iter().flat_map(|rule| borders(rule.matching.local)).collect();
        let sources = rules.iter().filter_map(|rule| rule.matching.source).flat_map(borders);
        let sources: BTreeSet<IpAddr> = sources.chain(["0.0.0.0".parse().unwrap(), "::".parse().unwrap()]).collect();
        let ports = |rule: &Rule| {
            let (first, last) = (rule.matching.ports.first(), rule.matching.ports.last());
            [first, last, first.saturating_sub(1), last.saturating_add(1)]
        };
        let ports: BTreeSet<u16> = rules.iter().flat_map(ports).filter(|port| *port != 0).collect();
        let marks = marks_of(rules.iter().map(|rule| rule.matching));
        for local in &locals {
            for port in &ports {
                for remote in sources.iter().filter(|remote| remote.is_ipv4() == local.is_ipv4()) {
                    for (protocol, ifindex) in Protocol::ALL.iter().flat_map(|it| (0..INTERFACES).map(move |i| (*it, i))) {
                        let (local, remote) = (SocketAddr::new(*local, *port), SocketAddr::new(*remote, 9));
                        for mark in &marks {
                            check(&old, &new, &moved, &Packet { protocol, local, remote, ifindex, mark: *mark });
                        }
                    }
                }
            }
        }
    }
}

fn ruleset(rules: &[(&str, &str, &str)]) -> Ruleset {
    let mut builder = Builder::new();
    for (local, ports, to) in rules {
        let verdict = match *to {
            "pass" => Verdict::Pass,
            "refuse" => Verdict::Refuse,
            name => Verdict::Service(builder.service(&name.parse().unwrap()).unwrap()),
        };
        builder.push(&Rule::new(Protocol::Tcp, local.parse().unwrap(), ports.parse().unwrap(), verdict)).unwrap();
    }
    builder.finish().unwrap()
}

fn lines(old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let name = |ruleset: &Ruleset, rule| answer(ruleset, rule).unwrap_or_else(|| "no rule".to_owned());
    let line = |moved: &Moved| {
        format!("{} {}: {} -> {}", moved.local, moved.ports, name(old, moved.previous), name(new, moved.new))
    };
    all(old, new).iter().map(line).collect()
}

#[test]
fn what_stays_is_not_named() {
    let old = ruleset(&[("192.0.2.0/24", "any", "web"), ("192.0.2.7", "any", "proxy")]);
    let new =
        ruleset(&[("192.0.2.7", "any", "proxy"), ("192.0.2.0/24", "any", "web"), ("192.0.2.0/24", "443", "proxy")]);
    assert_eq!(lines(&old, &new), ["192.0.2.0-192.0.2.6 443: web -> proxy", "192.0.2.8-192.0.2.255 443: web -> proxy"]);
    assert_eq!(
        lines(&old, &ruleset(&[])),
        [
            "192.0.2.0-192.0.2.6 any: web -> no rule",
            "192.0.2.7 any: proxy -> no rule",
            "192.0.2.8-192.0.2.255 any: web -> no rule"
        ]
    );
}

/// A rule that another one hides moves nothing, and neighbours that say the same are one box.
#[test]
fn hidden_rules_and_neighbours() {
    let hidden = [("192.0.2.0/24", "any", "web"), ("192.0.2.0/25", "any", "web"), ("192.0.2.128/25", "any", "web")];
    assert_eq!(lines(&ruleset(&hidden), &ruleset(&hidden[1..])), Vec::<String>::new());
    let halves = |to| [("192.0.2.0/25", "1-99", to), ("192.0.2.128/25", "1-99", to), ("192.0.2.0/24", "100", to)];
    assert_eq!(lines(&ruleset(&[]), &ruleset(&halves("web"))).len(), 3);
}

#[test]
fn a_policy_moves_nothing() {
    let old = ruleset(&[("::/0", "53", "dns")]);
    let mut builder = Builder::from_ruleset(old.clone());
    let dns = builder.services().id("dns").unwrap();
    builder.set_on_missing(dns, OnMissing::Pass);
    let new = builder.finish().unwrap();
    assert!(!Plan::between(&old, &new).is_empty() && all(&old, &new).is_empty());
}

/// A small change to a large ruleset: whatever is beside it is passed by.
#[test]
fn a_small_change_to_many_rules_is_found() {
    let host = |number: u32| format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
    let hosts: Vec<String> = (0..100_000).map(host).collect();
    let mut rules: Vec<(&str, &str, &str)> = hosts.iter().map(|host| (host.as_str(), "80", "web")).collect();
    let old = ruleset(&rules);
    rules[7].2 = "proxy";
    rules.remove(70_000);
    let new = ruleset(&rules);
    assert_eq!(lines(&old, &new), ["10.0.0.7 80: web -> proxy", "10.1.17.112 80: web -> no rule"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..ProptestConfig::default() })]

    /// Few changes to many rules are found without a look at all of them, and that gives the same, of all packets and
    /// of those to prefixes that are wider than the changes, or narrower.
    #[test]
    fn a_narrow_look_sees_all((old, new, packets) in pair_with_packets(6, 100), len in 0_u8..=32) {
        let many = |few: &Ruleset| {
            let mut builder = Builder::from_ruleset(few.clone());
            for number in 0..1500_u32 {
                let (v4, v6) = (Ipv4Addr::from_bits(0xc000_0200 ^ number << 3), Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 80));
                for local in [IpAddr::from(v4), IpAddr::from(v6)] {
                    let local: Prefix = local.into();
                    let ports = inlet_core::PortRange::new(60_001, 60_001).unwrap();
                    builder.push(&Rule::new(Protocol::Udp, local, ports, Verdict::Pass)).unwrap();
                }
            }
            builder.finish()
        };
        // A random rule may be the very one of the many, but hardly ever is: too many rejects fail the test.
        let (Ok(old), Ok(new)) = (many(&old), many(&new)) else { return Err(TestCaseError::reject("rules that tie")) };
        let moved = all(&old, &new);
        packets.iter().for_each(|packet| check(&old, &new, &moved, packet));
        moved.iter().flat_map(corners).for_each(|packet| check(&old, &new, &moved, &packet));
        let around = |addr: IpAddr| Prefix::holding(addr, if addr.is_ipv4() { len } else { 4 * len });
        let prefixes: Vec<Prefix> = packets.iter().step_by(10).filter_map(|packet| around(packet.local.ip())).collect();
        check_prefixes(&old, &new, &prefixes, &packets);
    }
}

#[test]
fn a_plan_is_told_in_match_order() {
    let rules = [
        ("0.0.0.0/0", "80", "web"),
        ("192.0.2.0/24", "any", "web"),
        ("192.0.2.0/24", "80", "web"),
        ("192.0.2.7", "any", "web"),
    ];
    let plan = Plan::between(&ruleset(&[]), &ruleset(&rules));
    let locals = |limit| -> Vec<String> {
        let text = |change: &&inlet_core::Change| format!("{} {}", change.matching().local, change.matching().ports);
        plan.in_match_order(limit).iter().map(text).collect()
    };
    assert_eq!(locals(9), ["192.0.2.7/32 any", "192.0.2.0/24 80", "192.0.2.0/24 any", "0.0.0.0/0 80"]);
    assert_eq!(locals(2), ["192.0.2.7/32 any", "192.0.2.0/24 80"]);
    assert_eq!(locals(0), Vec::<String>::new());
}
