//! The image, read in pure Rust, says of every packet what the specification says; and it carries its ruleset.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use inlet_core::arbitrary::{at_borders, crowded, history, ruleset, with_packets};
use inlet_core::config::{self, NoInterface, Routes, Source};
use inlet_core::image::{Compiled, Header, Outcome, Walk, compile, decode, recompile};
use inlet_core::{Builder, InterfaceName, Packet, Plan, PortRange, Protocol, Rule, Ruleset, Verdict, lookup};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

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

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, NoInterface> {
        name.as_str()[2..].parse().map_err(|_| NoInterface { message: format!("no {name}"), remedy: None })
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

/// Images that are made one from the other, most of which keep what the one before had.
#[test]
fn recompiled_images_and_specification_agree() {
    let (recompiled, kept) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { cases: 30, ..ProptestConfig::default() });
    let agree = |(rulesets, packets): (Vec<Ruleset>, Vec<Packet>)| {
        let mut image = compile(&rulesets[0]).unwrap().to_words();
        for pair in rulesets.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            let words =
                recompile(Compiled { ruleset: old, image: &image }, new, &Plan::between(old, new)).unwrap().to_words();
            let walk = Walk::new(&words).unwrap();
            for packet in &packets {
                prop_assert_eq!(walk.lookup(packet), expected(new, packet), "{:?}", packet);
            }
            prop_assert_eq!(&decode(&words).unwrap(), new);
            recompiled.set(recompiled.get() + 1);
            kept.set(kept.get() + u32::from(is_kept(&words)));
            image = words;
        }
        Ok(())
    };
    runner.run(&history(1600, 10, 300), agree).unwrap();
    assert!(kept.get() > recompiled.get() / 3, "{} of {}", kept.get(), recompiled.get());
}

/// Whether the packet matches the rule when it is the only one.
fn alone(ruleset: &Ruleset, rule: &Rule, packet: &Packet) -> bool {
    let mut builder = Builder::from_ruleset(ruleset.clone());
    for other in ruleset.rules().filter(|other| other != rule) {
        builder.remove(&other.matching);
    }
    lookup(&builder.finish().unwrap(), packet).is_some()
}

/// Crowded places, also with one more rule, with which they stay as they were.
#[test]
fn crowded_searches_agree() {
    let ruleset = crowded();
    let image = compile(&ruleset).unwrap().to_words();
    let header = Header::decode(&image).unwrap();
    assert!(header.bisect == 1 && header.levels > 5 && header.hops == 33, "{header:?}");
    agree(&ruleset, &image);
    let mut builder = Builder::from_ruleset(ruleset.clone());
    let local = "2001:db8:64::/64".parse().unwrap();
    builder.push(&Rule::new(Protocol::Udp, local, PortRange::ANY, Verdict::Pass)).unwrap();
    let more = builder.finish().unwrap();
    let old = Compiled { ruleset: &ruleset, image: &image };
    let words = recompile(old, &more, &Plan::between(&ruleset, &more)).unwrap().to_words();
    assert!(is_kept(&words));
    agree(&more, &words);
}

/// Whether most of an image is of one before it.
fn is_kept(image: &[u32]) -> bool {
    let header = Header::decode(image).unwrap();
    header.search_words > header.whole_words
}

fn agree(ruleset: &Ruleset, words: &[u32]) {
    let walk = Walk::new(words).unwrap();
    for packet in at_borders(ruleset, 37) {
        assert_eq!(walk.lookup(&packet), expected(ruleset, &packet), "{packet:?}");
    }
}

/// Two ranges of one width that overlap do not tie when the sources differ: then the source decides, not the lower
/// port.
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
