//! The previous ruleset can be rebuilt from the one in force and what is kept beside it.
#![allow(clippy::unwrap_used)]

use inlet_core::arbitrary::{history, pair};
use inlet_core::image::{self, Previous};
use inlet_core::{Builder, Plan, Rule, Ruleset, Verdict};
use proptest::prelude::*;

fn back(old: &Ruleset, new: &Ruleset) -> (Ruleset, usize) {
    let words = Previous::between(old, new, &Plan::between(old, new)).unwrap().to_words();
    let previous = Previous::decode(&words).unwrap();
    assert_eq!(previous.services(), old.services());
    assert_eq!(&Previous::decode_services(&words).unwrap(), old.services());
    (previous.builder(new).unwrap().finish().unwrap(), words.len() * 4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_previous_ruleset_comes_back((old, new) in pair(60)) {
        let (mut restored, _) = back(&old, &new);
        // A rule that stayed has the interface as it is now.
        if old.interfaces() != new.interfaces() {
            let mut builder = Builder::from_ruleset(restored);
            builder.resolve_interfaces(|name| old.interfaces().iter().find(|it| it.name == *name).unwrap().index);
            restored = builder.finish().unwrap();
        }
        prop_assert_eq!(restored, old);
    }

    /// Damage is an error or another ruleset, never a panic.
    #[test]
    fn damage_is_found((old, new) in pair(20), at in any::<prop::sample::Index>(), bits in 1_u32..) {
        let mut words = Previous::between(&old, &new, &Plan::between(&old, &new)).unwrap().to_words();
        let at = at.index(words.len());
        prop_assert!(Previous::decode(&words[..at]).is_err());
        words[at] ^= bits;
        if let Ok(previous) = Previous::decode(&words) {
            let previous = previous.builder(&new).map(Builder::finish);
            previous.into_iter().flatten().for_each(|previous| is_like_any(&previous, &new));
        }
    }

    /// What is read of a damaged image is a ruleset like any other.
    #[test]
    fn damage_of_an_image_is_found((ruleset, other) in pair(20), at in any::<prop::sample::Index>(), bits in 1_u32..) {
        let image = image::compile(&ruleset).unwrap();
        let (mut words, source) = (image.to_words(), image.header().source as usize);
        let read = HEADER_WORDS + words.len() - source;
        let at = at.index(read);
        let at = if at < HEADER_WORDS { at } else { source + at - HEADER_WORDS };
        prop_assert!(image::decode(&words[..at]).is_err());
        words[at] ^= bits;
        if let Ok(damaged) = image::decode(&words) {
            is_like_any(&damaged, &other);
        }
    }

    /// What a commit would keep of an image with a damaged header is no reason for a panic.
    #[test]
    fn an_image_with_a_damaged_header_has_a_successor((rulesets, _) in history(400, 1, 0), at in 0..HEADER_WORDS, bits in prop_oneof![1_u32.., (0..32_u32).prop_map(|bit| 1 << bit)]) {
        let mut words = image::compile(&rulesets[0]).unwrap().to_words();
        words[at] ^= bits;
        let old = image::Compiled { ruleset: &rulesets[0], image: &words };
        let plan = Plan::between(&rulesets[0], &rulesets[1]);
        let words = image::recompile(old, &rulesets[1], &plan).unwrap().to_words();
        prop_assert_eq!(&image::decode(&words).unwrap(), &rulesets[1]);
    }
}

/// The words of a header that say something.
const HEADER_WORDS: usize = 48;

/// Everything can be done with the ruleset, and it comes back from its image.
fn is_like_any(ruleset: &Ruleset, other: &Ruleset) {
    ruleset.rules().for_each(|rule| drop(ruleset.named(&rule).to_string()));
    Previous::between(other, ruleset, &Plan::between(other, ruleset)).unwrap().to_words();
    let Ok(ruleset) = Builder::from_ruleset(ruleset.clone()).finish() else { return };
    let Ok(image) = image::compile(&ruleset) else { return };
    assert_eq!(image::decode(&image.to_words()).unwrap(), ruleset);
}

fn hosts(count: u32, ports: &str) -> Ruleset {
    let mut builder = Builder::new();
    let web = builder.service(&"web".parse().unwrap()).unwrap();
    for number in 0..count {
        let local = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(number * 4096 + number % 4096)).into();
        builder
            .push(&Rule::new(inlet_core::Protocol::Tcp, local, ports.parse().unwrap(), Verdict::Service(web)))
            .unwrap();
    }
    builder.finish().unwrap()
}

/// What is kept takes the memory of the change, and at most 5 bytes a previous IPv4 rule.
#[test]
fn it_is_small() {
    let (many, other) = (hosts(100_000, "80"), hosts(100_000, "443"));
    let mut builder = Builder::from_ruleset(many.clone());
    builder
        .push(&Rule::new(inlet_core::Protocol::Udp, "192.0.2.7".parse().unwrap(), "53".parse().unwrap(), Verdict::Pass))
        .unwrap();
    let one_more = builder.finish().unwrap();
    let size = |old: &Ruleset, new: &Ruleset| {
        let (restored, size) = back(old, new);
        assert_eq!(&restored, old);
        size
    };
    assert!(size(&many, &one_more) < 400);
    assert!(size(&one_more, &many) < 400);
    assert!(size(&Ruleset::empty(), &many) < 400);
    assert!(size(&many, &other) < 500_400, "{}", size(&many, &other));
}
