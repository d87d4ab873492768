//! The image, read in pure Rust, says of every packet what the specification says; and it carries its ruleset.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use inlet_core::arbitrary::{ruleset, with_packets};
use inlet_core::config::{self, Routes, Source};
use inlet_core::image::{Outcome, Walk, compile, decode};
use inlet_core::{Builder, InterfaceName, Packet, PortRange, Protocol, Rule, Ruleset, Verdict, lookup};
use proptest::prelude::*;

fn expected(ruleset: &Ruleset, packet: &Packet) -> Outcome {
    match lookup(ruleset, packet).map(|rule| rule.verdict) {
        None => Outcome::Miss,
        Some(Verdict::Pass) => Outcome::Pass,
        Some(Verdict::Refuse) => Outcome::Refuse,
        Some(Verdict::Service(id)) => Outcome::Service(id, ruleset.services().get(id).unwrap().on_missing),
    }
}

/// Interfaces by the number in their name, as random rulesets have them.
struct Numbered;

impl config::Host for Numbered {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        Err(format!("no {}", path.display()))
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        Err(format!("no {}", path.display()))
    }

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, String> {
        name.as_str()[2..].parse().map_err(|_| format!("no {name}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn image_and_specification_agree((ruleset, packets) in with_packets(60, 400)) {
        let words = compile(&ruleset).unwrap().to_words();
        let walk = Walk::new(&words).unwrap();
        for packet in &packets {
            prop_assert_eq!(walk.lookup(packet), expected(&ruleset, packet), "{:?}", packet);
        }
    }

    #[test]
    fn an_image_carries_its_ruleset(ruleset in ruleset(60)) {
        prop_assert_eq!(decode(&compile(&ruleset).unwrap().to_words()).unwrap(), ruleset);
    }

    #[test]
    fn an_export_applied_changes_nothing(ruleset in ruleset(60), manage in any::<bool>()) {
        let routes = if manage { Routes::Manage } else { Routes::Leave };
        let (mut json, mut toml) = (Vec::new(), Vec::new());
        config::write(&ruleset, routes, &mut json).unwrap();
        config::write_toml(&ruleset, routes, &mut toml).unwrap();
        for text in [json, toml] {
            let text = String::from_utf8(text).unwrap();
            let parsed = config::parse(Source::new("export", text), &ruleset, &mut Numbered).unwrap();
            prop_assert_eq!((parsed.ruleset, parsed.routes), (ruleset.clone(), routes));
        }
    }

    #[test]
    fn match_order_is_first_match((ruleset, packets) in with_packets(40, 100)) {
        let order = ruleset.match_order();
        for packet in &packets {
            let holds = |rule: &&Rule| alone(&ruleset, rule, packet);
            prop_assert_eq!(order.iter().find(holds).copied(), lookup(&ruleset, packet));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Enough rules for windows with many buckets, and for buckets that lead on.
    #[test]
    fn larger_images_and_specification_agree((ruleset, packets) in with_packets(600, 400)) {
        let words = compile(&ruleset).unwrap().to_words();
        let walk = Walk::new(&words).unwrap();
        for packet in &packets {
            prop_assert_eq!(walk.lookup(packet), expected(&ruleset, packet), "{:?}", packet);
        }
    }
}

/// Whether the packet matches the rule when it is the only one.
fn alone(ruleset: &Ruleset, rule: &Rule, packet: &Packet) -> bool {
    let mut builder = Builder::from_ruleset(ruleset.clone());
    for other in ruleset.rules().filter(|other| other != rule) {
        builder.remove(&other.matching);
    }
    lookup(&builder.finish().unwrap(), packet).is_some()
}

/// Crowded places: indexes of several levels, port tables beyond one cache line, bisected stretches.
#[test]
fn crowded_searches_agree() {
    let mut builder = Builder::new();
    let web = builder.service(&"web".parse().unwrap()).unwrap();
    let mut push = |local: String, first: u16, last: u16| {
        let ports = PortRange::new(first, last).unwrap();
        builder.push(&Rule::new(Protocol::Tcp, local.parse().unwrap(), ports, Verdict::Service(web))).unwrap();
    };
    for host in 0..4000_u32 {
        push(format!("10.{}.{}.{}", host % 3, host / 256, host % 256), 80, 80);
        push(format!("2001:db8::{:x}:{:x}", host % 7, host), 80, 443);
        push(format!("2001:db8:{:x}::/64", host * 5), 1, 65535);
    }
    for len in 0..=32 {
        push(
            format!("{}/{len}", Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - len).unwrap_or(0))),
            1000 + len as u16,
            2000,
        );
    }
    (0..5000).for_each(|n| push("192.0.2.0/24".into(), 10 * n + 1, 10 * n + 1 + n % 9));
    let ruleset = builder.finish().unwrap();
    let words = compile(&ruleset).unwrap().to_words();
    let walk = Walk::new(&words).unwrap();
    let check = |local: IpAddr, port: u16| {
        let remote = if local.is_ipv4() { "203.0.113.1:4000" } else { "[2001:db8:ffff::1]:4000" };
        let packet = Packet::new(Protocol::Tcp, (local, port).into(), remote.parse().unwrap());
        assert_eq!(walk.lookup(&packet), expected(&ruleset, &packet), "{packet:?}");
    };
    let rules: Vec<Rule> = ruleset.rules().collect();
    for rule in rules.iter().step_by(37) {
        let (first, last) = (rule.matching.local.addr(), rule.matching.local.net().broadcast());
        check(first, rule.matching.ports.first());
        check(last, rule.matching.ports.last().saturating_add(1));
        check(beside(first, -1), rule.matching.ports.first());
        check(beside(last, 1), rule.matching.ports.first());
    }
}

/// The address so far away.
fn beside(addr: IpAddr, distance: i8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().wrapping_add_signed(distance.into())).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().wrapping_add_signed(distance.into())).into(),
    }
}

/// Two ranges of one width that overlap do not tie when the sources differ: then the source decides, not the lower port.
#[test]
fn of_equally_wide_ranges_the_source_decides() {
    let mut builder = Builder::new();
    let local = "192.0.2.0/24".parse().unwrap();
    let all = Rule::new(Protocol::Tcp, local, "8000-8010".parse().unwrap(), Verdict::Pass);
    let some = Rule::new(Protocol::Tcp, local, "8005-8015".parse().unwrap(), Verdict::Refuse);
    builder.push(&all).unwrap();
    builder.push(&some.from("203.0.113.0/24".parse().unwrap())).unwrap();
    let ruleset = builder.finish().unwrap();
    let words = compile(&ruleset).unwrap().to_words();
    let walk = Walk::new(&words).unwrap();
    let table = [
        ("203.0.113.9:1", 8007, Outcome::Refuse),
        ("198.51.100.9:1", 8007, Outcome::Pass),
        ("203.0.113.9:1", 8004, Outcome::Pass),
        ("203.0.113.9:1", 8015, Outcome::Refuse),
        ("198.51.100.9:1", 8015, Outcome::Miss),
    ];
    for (remote, port, outcome) in table {
        let packet =
            Packet::new(Protocol::Tcp, ("192.0.2.1".parse::<IpAddr>().unwrap(), port).into(), remote.parse().unwrap());
        assert_eq!(walk.lookup(&packet), outcome, "{packet:?}");
        assert_eq!(expected(&ruleset, &packet), outcome, "{packet:?}");
    }
}

/// What a removed rule alone named does not stay behind.
#[test]
fn removing_restores_the_canonical_form() {
    let mut builder = Builder::new();
    let rule =
        |ports: &str| Rule::new(Protocol::Tcp, "192.0.2.0/24".parse().unwrap(), ports.parse().unwrap(), Verdict::Pass);
    builder.push(&rule("80")).unwrap();
    let before = builder.finish().unwrap();
    let mut builder = Builder::from_ruleset(before.clone());
    let iface = builder.interface_named(&"eth0".parse().unwrap()).unwrap();
    builder.push(&rule("81").on(iface)).unwrap();
    let mut builder = Builder::from_ruleset(builder.finish().unwrap());
    builder.remove(&rule("81").on(iface).matching).unwrap();
    assert_eq!(builder.finish().unwrap(), before);
}
