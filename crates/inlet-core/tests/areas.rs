//! What is worked out with areas is what the specification says of single packets: which rules never match, and what
//! services and sockets receive. Random rulesets, and packets at every border that there is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet_core::arbitrary::{INTERFACES, marks_of, ruleset, with_packets};
use inlet_core::{
    Area, Bound, Builder, Claim, Mark, Match, OnMissing, Packet, PortRange, Prefix, Protocol, Rank, Rule, Ruleset,
    Verdict, given, kept, lookup, never_matching, steered_prefixes, takers,
};
use proptest::prelude::*;

/// The first address of a prefix and the one after its last: between these, of all prefixes, nothing changes.
fn borders(prefix: Prefix) -> Vec<IpAddr> {
    match prefix.addr() {
        IpAddr::V4(addr) => {
            let size = 1_u64 << (32 - prefix.len());
            let after = u32::try_from(u64::from(addr.to_bits()) + size);
            [Ok(addr.to_bits()), after].into_iter().flatten().map(|bits| Ipv4Addr::from_bits(bits).into()).collect()
        }
        IpAddr::V6(addr) => {
            let last = addr.to_bits() | u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            let after = last.checked_add(1);
            [Some(addr.to_bits()), after].into_iter().flatten().map(|bits| Ipv6Addr::from_bits(bits).into()).collect()
        }
    }
}

/// A packet for every part into which the borders of a ruleset cut the packets of a rule.
fn packets_of(ruleset: &Ruleset, rule: &Rule) -> Vec<Packet> {
    let family: Vec<Match> = ruleset
        .rules()
        .map(|rule| rule.matching)
        .filter(|it| it.local.is_v6() == rule.matching.local.is_v6())
        .collect();
    let Match { protocol, local, ports, source, .. } = rule.matching;
    let everywhere = if local.is_v6() { "::/0" } else { "0.0.0.0/0" }.parse().unwrap();
    let source = source.unwrap_or(everywhere);
    let inside = |all: BTreeSet<IpAddr>, prefix: Prefix| all.into_iter().filter(move |addr| prefix.contains(*addr));
    let locals = inside(family.iter().flat_map(|it| borders(it.local)).collect(), local);
    let sources = family.iter().filter_map(|it| it.source).chain([source]).flat_map(borders).collect();
    let sources: Vec<IpAddr> = inside(sources, source).collect();
    let starts = family.iter().flat_map(|it| [it.ports.first(), it.ports.last().saturating_add(1)]);
    let starts: BTreeSet<u16> = starts.chain([ports.last()]).filter(|port| ports.contains(*port)).collect();
    let marks = marks_of(family.iter().copied());
    let mut packets = Vec::new();
    for local in locals {
        for port in &starts {
            for source in &sources {
                for ifindex in 0..=INTERFACES {
                    let (local, remote) = (SocketAddr::new(local, *port), SocketAddr::new(*source, 1));
                    packets.extend(marks.iter().map(|mark| Packet { protocol, local, remote, ifindex, mark: *mark }));
                }
            }
        }
    }
    packets
}

/// Rules in so little room that they shadow each other: four addresses, few ports, halves of the sources, two
/// interfaces, two bits of the mark.
fn crowded() -> impl Strategy<Value = Ruleset> {
    let source = prop_oneof![3 => Just(None), 1 => Just(Some("0.0.0.0/1")), 1 => Just(Some("128.0.0.0/1"))];
    let mark = prop::option::weighted(0.2, (1_u32..4, 0_u32..4));
    let where_from = (source, prop::option::weighted(0.2, 0_u8..3), mark);
    let rule = (prop::bool::weighted(0.3), 0_u8..4, 0_u8..3, 1_u16..3, 0_u16..3, where_from);
    prop::collection::vec(rule, 2..40).prop_map(|drafts| {
        let mut ruleset = Ruleset::empty();
        for (v6, addr, shorter, first, more, (source, iface, mark)) in drafts {
            let mut builder = Builder::from_ruleset(ruleset.clone());
            let local = if v6 { format!("2001:db8::{addr}") } else { format!("192.0.2.{addr}") };
            let local = Prefix::holding(local.parse().unwrap(), if v6 { 128 } else { 32 } - shorter).unwrap();
            let ports = PortRange::new(first, first + more).unwrap();
            let mut rule = Rule::new(Protocol::Tcp, local, ports, Verdict::Refuse);
            rule.matching.source = source.filter(|_| !v6).map(|source| source.parse().unwrap());
            rule.matching.iface = iface.map(|n| builder.interface_named(&format!("if{n}").parse().unwrap()).unwrap());
            rule.matching.mark = mark.map(|(mask, value)| Mark::new(value & mask, mask).unwrap());
            builder.push(&rule).unwrap();
            builder.resolve_interfaces(|name| name.as_str()[2..].parse().unwrap());
            // A rule that ties with another is left out.
            ruleset = builder.finish().unwrap_or(ruleset);
        }
        ruleset
    })
}

#[test]
fn crowded_rules_do_shadow_each_other() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let shadowed = |_| never_matching(&crowded().new_tree(&mut runner).unwrap().current()).len();
    let count = (0..100).map(shadowed).filter(|shadowed| *shadowed > 0).count();
    assert!(count > 30, "{count} of 100");
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 400, max_shrink_iters: 500, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_rule_never_matches_exactly_when_it_decides_about_no_packet(
        ruleset in prop_oneof![1 => ruleset(14), 4 => crowded()],
    ) {
        let never = never_matching(&ruleset);
        for rule in ruleset.rules() {
            let decides = packets_of(&ruleset, &rule).iter().any(|packet| lookup(&ruleset, packet) == Some(rule));
            let is_there = Area::of(&ruleset, &rule.matching).is_some();
            prop_assert_eq!(is_there && !decides, never.contains(&rule), "{}", ruleset.named(&rule));
            prop_assert!(decides || !is_there || takers(&ruleset, &rule).next().is_some());
        }
    }

    #[test]
    fn a_service_receives_what_its_claims_hold((ruleset, packets) in with_packets(25, 60)) {
        for (id, _) in ruleset.services().iter() {
            let claims = given(&ruleset, id);
            for packet in &packets {
                let receives = lookup(&ruleset, packet).is_some_and(|rule| rule.verdict == Verdict::Service(id));
                prop_assert_eq!(claims.iter().any(|claim| claim.holds(packet)), receives, "{:?}", packet);
            }
            let rules = claims.iter().filter_map(|claim| claim.rule);
            let never = never_matching(&ruleset);
            prop_assert!(rules.into_iter().all(|rule| !never.contains(&rule)));
        }
    }

    #[test]
    fn a_socket_keeps_what_its_claims_hold(
        (ruleset, packets) in with_packets(25, 60),
        near in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, any::<bool>(), 0..INTERFACES), 1..6),
    ) {
        // Services whose policy is pass have no socket here, the others have one.
        let takes = |rule: &Rule| match rule.verdict {
            Verdict::Pass => false,
            Verdict::Refuse => true,
            Verdict::Service(id) => ruleset.services().get(id).unwrap().on_missing == OnMissing::Refuse,
        };
        let bounds: Vec<Bound> = near.iter().map(|(packet, kind, v6only, device)| {
            let packet = packet.get(&packets);
            let addr = match kind {
                0 => packet.local.ip(),
                1 => Ipv4Addr::UNSPECIFIED.into(),
                _ => Ipv6Addr::UNSPECIFIED.into(),
            };
            let addr = SocketAddr::new(addr, packet.local.port());
            Bound { protocol: packet.protocol, addr, v6only: *v6only, device: if *kind == 3 { *device } else { 0 } }
        }).collect();
        for bound in &bounds {
            let claims: Vec<Claim> = kept(&ruleset, bound, &bounds, takes);
            for packet in &packets {
                let is_ordinary = lookup(&ruleset, packet).is_none_or(|rule| !takes(&rule));
                let others = || bounds.iter().filter_map(|other| other.rank(packet));
                let may = |own: Rank| others().all(|other| other <= own || own.may_precede(&other));
                // No packet goes to port 0, and no socket that waits for one has it.
                let receives = is_ordinary && bound.rank(packet).is_some_and(may) && packet.local.port() > 0;
                prop_assert_eq!(claims.iter().any(|claim| claim.holds(packet)), receives, "{:?} {:?}", bound, packet);
            }
        }
    }

    #[test]
    fn prefixes_to_be_local_hold_what_rules_steer((ruleset, packets) in with_packets(25, 60)) {
        let prefixes = steered_prefixes(ruleset.rules());
        let can_be_local = |local: Prefix| local.len() > 0 && !local.is_multicast();
        let steered = |rule: &Rule| rule.verdict != Verdict::Pass && can_be_local(rule.matching.local);
        for packet in packets {
            let ip = packet.local.ip();
            let wanted = ruleset.rules().any(|rule| steered(&rule) && rule.matching.local.contains(ip));
            prop_assert_eq!(prefixes.iter().any(|prefix| prefix.contains(ip)), wanted, "{}", ip);
        }
        prop_assert!(prefixes.iter().all(|one| prefixes.iter().all(|other| one == other || !one.covers(other))));
        for rule in ruleset.rules() {
            let inside = prefixes.iter().any(|prefix| prefix.covers(&rule.matching.local));
            prop_assert_eq!(prefixes.covers(&rule.matching.local), inside);
        }
    }
}

/// A ruleset of rules `PREFIX PORTS [SOURCE]`, those that never match marked with an exclamation mark.
#[track_caller]
fn marked(rules: &[&str]) {
    let mut builder = Builder::new();
    let mut expected = BTreeSet::new();
    for line in rules {
        let words: Vec<&str> = line.trim_start_matches('!').split(' ').collect();
        let local: Prefix = words[0].parse().unwrap();
        let mut rule = Rule::new(Protocol::Tcp, local, words[1].parse().unwrap(), Verdict::Refuse);
        rule.matching.source = words.get(2).map(|source| source.parse().unwrap());
        builder.push(&rule).unwrap();
        if line.starts_with('!') {
            expected.insert(line.trim_start_matches('!').to_owned());
        }
    }
    let ruleset = builder.finish().unwrap();
    let text = |rule: &Rule| {
        let Match { local, ports, source, .. } = rule.matching;
        format!("{local} {ports}{}", source.map_or_else(String::new, |source| format!(" {source}")))
    };
    assert_eq!(never_matching(&ruleset).iter().map(text).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn rules_are_shadowed_in_every_way() {
    marked(&["!192.0.2.0/24 any", "192.0.2.0/25 any", "192.0.2.128/25 any"]);
    marked(&["192.0.2.0/24 any", "192.0.2.0/25 any", "192.0.2.128/25 1-65534"]);
    marked(&["!192.0.2.0/24 80-83", "192.0.2.0/24 80-81", "192.0.2.0/24 82", "192.0.2.0/24 83"]);
    marked(&["!192.0.2.0/24 80", "192.0.2.0/24 80 0.0.0.0/1", "192.0.2.0/24 80 128.0.0.0/1"]);
    marked(&["192.0.2.0/24 80", "192.0.2.0/24 80 0.0.0.0/1", "192.0.2.0/24 80 128.0.0.0/2"]);
    // One half by prefixes, the other by ports and sources of longer ones.
    let quarters = ["192.0.2.128/26 80 0.0.0.0/1", "192.0.2.128/26 80 128.0.0.0/1", "192.0.2.192/26 1-100"];
    marked(&[&["!192.0.2.0/24 80", "192.0.2.0/25 70-90"][..], &quarters].concat());
    // A rule that is wider in one way is not saved by being narrower in another.
    marked(&["!192.0.2.0/24 80 203.0.113.0/24", "192.0.2.0/25 any", "192.0.2.128/25 any"]);
}

#[test]
fn an_unspecified_protocol_is_not_mixed_up() {
    let area = |protocol| Area {
        protocol,
        local: "192.0.2.0/24".parse().unwrap(),
        ports: "80".parse().unwrap(),
        source: None,
        ifindex: None,
        mark: None,
    };
    assert!(area(Protocol::Tcp).intersection(&area(Protocol::Udp)).is_none());
    assert!(!area(Protocol::Tcp).is_covered_by(&[area(Protocol::Udp)]));
}
