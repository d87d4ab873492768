//! The fast way and the slow way of reading JSON accept the same texts and make the same of them. Reading in halves
//! makes the same of what it accepts.

use std::cell::Cell;

use inlet_core::Ruleset;
use inlet_core::config::{Routes, Source, ways, write};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::files;

/// A key with its value, or nothing: of the good values mostly, of the bad ones at times.
fn field(key: &'static str, good: &'static [&'static str], bad: &'static [&'static str]) -> BoxedStrategy<String> {
    let value = prop_oneof![40 => select(good), 1 => select(bad)];
    value.prop_map(move |value| format!("{key:?}: {value}")).boxed()
}

fn maybe(weight: f64, field: BoxedStrategy<String>) -> BoxedStrategy<Option<String>> {
    option::weighted(weight, field).boxed()
}

fn object(fields: Vec<Option<String>>) -> String {
    format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn rule() -> impl Strategy<Value = String> {
    let prefixes = &[
        "\"192.0.2.0/24\"",
        "\"198.51.100.7\"",
        "[\"10.0.0.0/8\", \"2001:db8::/64\"]",
        "\"@feed\"",
        "[\"@few\"]",
        "\"@none\"",
        "\"0.0.0.0/0\"",
    ];
    let bad_prefixes = &[
        "\"192.0.2.1/24\"",
        "[]",
        "null",
        "80",
        "\"@unknown\"",
        "[[\"10.0.0.0/8\"]]",
        "{}",
        "\"\\u0031.2.3.4\"",
        "\"\\ud800\"",
    ];
    let ports = &["80", "\"80\"", "\"any\"", "\"8000-8999\"", "[53, \"80,8000-8010\"]", "\" 80 - 90 \"", "65535"];
    let bad_ports =
        &["0", "-1", "1.5", "65536", "\"90-80\"", "[]", "null", "true", "1e2", "18446744073709551616", "[80, 80]"];
    let verdicts = prop_oneof![
        30 => field("to", &["\"web\"", "\"dns\""], &["\"none\"", "\"\"", "5"]),
        10 => field("verdict", &["\"pass\"", "\"refuse\""], &["\"drop\"", "true"]),
        1 => Just("\"to\": \"web\", \"verdict\": null".to_owned()),
        1 => Just("\"to\": \"web\", \"verdict\": \"pass\"".to_owned()),
    ];
    (
        maybe(0.98, verdicts.boxed()),
        maybe(
            0.99,
            field(
                "protocol",
                &["\"tcp\"", "\"udp\"", "[\"tcp\", \"udp\"]"],
                &["\"sctp\"", "[]", "null", "6", "\"TCP\""],
            ),
        ),
        maybe(0.99, field("local", prefixes, bad_prefixes)),
        maybe(0.99, field("ports", ports, bad_ports)),
        maybe(0.2, field("except", &["8001", "[\"8000-8001\", 8005]", "null", "1"], &["90", "0", "[]", "\"any\""])),
        maybe(0.3, field("from", prefixes, bad_prefixes)),
        maybe(0.2, field("iface", &["\"if1\"", "\"if2\"", "null"], &["\"eth0\"", "5", "\"a b\"", "[\"if1\"]"])),
        maybe(0.2, field("mark", &["\"0x1/0xff\"", "\"7\"", "7", "null"], &["\"x\"", "\"1/0\"", "1.5", "-1", "[1]"])),
        maybe(0.01, field("form", &["\"10.0.0.0/8\""], &["1"])),
        (any::<Index>(), prop::bool::weighted(0.01)),
    )
        .prop_map(|(verdict, protocol, local, ports, except, from, iface, mark, unknown, (index, twice))| {
            let mut fields = vec![verdict, protocol, local, ports, except, from, iface, mark, unknown];
            let again = index.get(&fields).clone();
            fields.push(again.filter(|_| twice));
            object(fields)
        })
}

fn service() -> impl Strategy<Value = String> {
    let fields = (
        maybe(0.5, field("on_missing", &["\"refuse\"", "\"pass\"", "null"], &["\"drop\"", "1"])),
        maybe(
            0.5,
            field(
                "listen",
                &["\"tcp:127.0.0.1:80\"", "[\"udp:*:53\", \"tcp:[::1]:80\"]", "null"],
                &["[]", "80", "\"tcp:80\""],
            ),
        ),
        maybe(0.1, field("unit", &["\"a.service\"", "null"], &["\"a\"", "1"])),
        maybe(0.1, field("cgroup", &["\"/a\"", "null"], &["\"a\"", "[]"])),
        maybe(0.1, field("user", &["\"www\"", "\"33\""], &["33", "\"a b\""])),
        maybe(0.1, field("anyone", &["true", "false", "null"], &["1", "\"true\""])),
        maybe(0.3, field("sticky", &["120", "0", "\"5\"", "null"], &["-1", "20000", "1.5", "true", "\"no\""])),
        maybe(0.3, field("answers", &["\"asked\"", "\"bound\"", "null"], &["\"told\"", "1"])),
    );
    let value = fields.prop_map(|(a, b, c, d, e, f, g, h)| object(vec![a, b, c, d, e, f, g, h]));
    prop_oneof![60 => value, 1 => Just("null".to_owned()), 1 => Just("{\"kind\": 1}".to_owned())]
}

fn text() -> impl Strategy<Value = String> {
    let services = (service(), service(), prop::bool::weighted(0.02)).prop_map(|(web, dns, twice)| {
        let more = if twice { format!(", \"web\": {web}") } else { String::new() };
        format!("\"services\": {{\"web\": {web}, \"dns\": {dns}{more}}}")
    });
    let sets = field(
        "sets",
        &["{\"feed\": {\"file\": \"feed.txt\"}, \"few\": [\"10.0.0.0/8\", \"fd00::/8\"], \"none\": []}"],
        &[
            "{\"feed\": {\"file\": \"bad.txt\"}}",
            "{\"feed\": {\"file\": \"no.txt\"}}",
            "{\"feed\": {}}",
            "[]",
            "{\"few\": [], \"few\": []}",
            "{\"few\": [\"10.0.0.1/8\"]}",
        ],
    );
    let grants = maybe(
        0.2,
        field(
            "grants",
            &[
                "[]",
                "[{\"user\": \"www\", \"service\": \"web\"}]",
                "[{\"unit\": \"a.service\", \"service\": \"dns\", \"local\": \"10.0.0.0/8\", \"ports\": 53}]",
                "[{\"user\": \"1\", \"unit\": null, \"service\": \"web\", \"local\": [\"::/0\"], \"ports\": \"1-9\"}]",
            ],
            &[
                "{}",
                "null",
                "[{\"service\": \"web\"}]",
                "[{\"user\": \"www\"}]",
                "[{\"user\": \"www\", \"service\": \"none\"}]",
                "[{\"user\": \"www\", \"service\": \"web\", \"ports\": 80}]",
                "[{\"user\": \"www\", \"service\": \"web\", \"local\": []}]",
                "[{\"user\": \"a\", \"service\": \"web\", \"local\": \"10.0.0.0/8\"}, {\"user\": \"b\", \"service\": \"dns\", \"local\": \"10.1.0.0/16\"}]",
            ],
        ),
    );
    let routes = maybe(0.2, field("routes", &["\"manage\"", "\"leave\""], &["\"no\"", "null", "1"]));
    let rules = option::weighted(0.98, vec(rule(), 0..6));
    let all = (option::weighted(0.98, services), maybe(0.98, sets), routes, grants, rules);
    all.prop_map(|(services, sets, routes, grants, rules)| {
        object(vec![routes, services, sets, grants, rules.map(|rules| format!("\"rules\": [{}]", rules.join(",\n ")))])
    })
}

/// Which ways accept a text.
struct Accepted {
    at_once: bool,
    in_halves: bool,
}

fn check(text: &str) -> Result<Accepted, TestCaseError> {
    let file = || Source::file("inlet.json", text.to_owned());
    let fast = ways::fast(file(), &Ruleset::empty(), &mut files());
    let slow = ways::slow(file(), &Ruleset::empty(), &mut files());
    let halves = ways::halves(file(), &Ruleset::empty(), &mut files());
    let accepted = Accepted { at_once: fast.is_some(), in_halves: halves.is_some() };
    prop_assert_eq!(accepted.at_once, slow.is_ok(), "{}\n{:?}", text, slow);
    if let Some(halves) = halves {
        let fast = fast.as_ref().ok_or_else(|| TestCaseError::fail(format!("halves accept {text}")))?;
        prop_assert_eq!((&halves.ruleset, halves.routes), (&fast.ruleset, fast.routes), "{}", text);
    }
    match (fast, slow) {
        (Some(fast), Ok(slow)) => prop_assert_eq!((fast.ruleset, fast.routes), (slow.ruleset, slow.routes), "{}", text),
        (_, Err(found)) => {
            for told in &found.list {
                let source = &found.files[told.place.file].text;
                prop_assert!(source.get(told.place.span.clone()).is_some() && told.place.line > 0, "{:?}", told);
            }
        }
        _ => {}
    }
    Ok(accepted)
}

#[test]
fn both_ways_agree() {
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 4000, ..ProptestConfig::default() });
    let (at_once, in_halves) = (Cell::new(0), Cell::new(0));
    runner
        .run(&text(), |text| {
            let accepted = check(&text)?;
            at_once.set(at_once.get() + u32::from(accepted.at_once));
            in_halves.set(in_halves.get() + u32::from(accepted.in_halves));
            Ok(())
        })
        .unwrap();
    // Were nearly all of one kind, the test would say nothing about the other.
    assert!((800..3200).contains(&at_once.get()), "{} of 4000 accepted", at_once.get());
    assert!((100..3200).contains(&in_halves.get()), "{} of 4000 accepted in halves", in_halves.get());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_agree_on_what_is_json(
        ruleset in inlet_core::arbitrary::ruleset(4),
        at in any::<Index>(),
        put in select(vec!["", "\"", "{", "}", "]", ",", "\\", "\n", "\u{0}", "é", "x", "0"]),
    ) {
        let mut text = Vec::new();
        write(&ruleset, Routes::Manage, &mut text).unwrap();
        let mut text = String::from_utf8(text).unwrap();
        let at = at.index(text.len());
        text.replace_range(at..=at, put);
        check(&text)?;
    }
}

/// Texts with a place that looks like one to cut at, and whether it is.
#[test]
fn halves_are_cut_between_rules_only() {
    let rule = |port: u16| {
        format!("{{\"to\": \"web\", \"protocol\": \"tcp\", \"local\": \"192.0.2.0/24\", \"ports\": {port}}}")
    };
    let file = |rules: &str, after: &str| format!("{{\"services\": {{\"web\": {{}}}}, \"rules\": [{rules}]{after}");
    // The cut is looked for from the middle on, so the first rule is the longer one.
    let (one, two) = (rule(1).replace(": ", ":    "), rule(2));
    let comma_in_string = format!("{{\"to\": \"web\", \"iface\": \"{:60}\"}},{:60}", "},", "");
    let texts = [
        (true, file(&format!("{one},{two}"), "}")),
        (true, file(&format!("\n {one},\r\n\t{two}\n"), " } \n")),
        (false, file(&one, "}")),
        (false, file(&format!("{one},"), "}")),
        (false, file(&format!("{one},,{two}"), "}")),
        (false, file(&format!("{one} 5 {two},{two}"), "}")),
        (false, file(&format!("{one}{two},{two}"), "}")),
        (false, file(&format!("{one},{two} 5"), "}")),
        (false, file(&format!("{one}],[{two}"), "}")),
        (false, file(&format!("{one},{two}"), "} 5")),
        (false, file(&format!("{one},{two}"), "]")),
        (false, file(&format!("{one},{two}"), "")),
        (false, file(&comma_in_string, "}")),
        (false, file(&format!("{one},{two}"), ", \"routes\": \"leave\"}")),
        (false, format!("{{\"sets\": {{\"rules\": [\"10.0.0.0/8\"]}}, \"rules\": [{one},{two}]}}")),
        (false, format!("[{}]", file(&format!("{one},{two}"), "}"))),
    ];
    for (in_halves, text) in texts {
        assert_eq!(check(&text).unwrap().in_halves, in_halves, "{text}");
    }
}
