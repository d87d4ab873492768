//! Texts that no firewall wrote: whatever comes in, nothing panics, and what comes out is a ruleset.

use std::path::Path;
use std::time::{Duration, Instant};

use inlet_import::{Surroundings, listeners, tproxy};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use crate::ruleset;

/// How long each test goes on, and how many texts it tries at most.
const TIME: Duration = Duration::from_secs(12);
const TEXTS: u32 = 6000;

fn corpus(kinds: &[&str]) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| kinds.iter().any(|kind| path.extension().unwrap() == *kind)).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// A change of a text: what, where, and by which piece of another text.
fn change() -> impl Strategy<Value = (u8, Index, Index, Index, &'static str)> {
    let pieces = vec![
        "!",
        "-j",
        "@s",
        "0",
        "-1",
        "4294967295",
        "99999999999",
        "10.0.0.0/8",
        "::/0",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "*",
        "null",
        "\u{feff}",
        "é",
        "\n",
        " ",
        "65535",
        "RETURN",
        "-m socket",
        "--dport",
        "1:2:3",
        "/33",
    ];
    (0..6_u8, any::<Index>(), any::<Index>(), any::<Index>(), select(pieces))
}

fn changed(text: &str, other: &str, (kind, a, b, c, piece): (u8, Index, Index, Index, &str)) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return other.to_owned();
    }
    let (mut first, mut last) = (a.index(chars.len()), b.index(chars.len()));
    if last < first {
        std::mem::swap(&mut first, &mut last);
    }
    let last = last.min(first + 40);
    let lines: Vec<&str> = other.lines().collect();
    let line: Vec<char> =
        lines.get(c.index(lines.len().max(1))).map(|line| format!("\n{line}\n").chars().collect()).unwrap_or_default();
    match kind {
        0 => drop(chars.drain(first..last)),
        1 => drop(chars.splice(first..first, piece.chars())),
        2 => drop(chars.splice(first..last, piece.chars())),
        3 => drop(chars.splice(first..first, line)),
        4 => {
            let again: Vec<char> = chars[first..last].to_vec();
            drop(chars.splice(first..first, again));
        }
        _ => chars[first] = char::from_u32(chars[first] as u32 ^ (1 << c.index(7))).unwrap_or('x'),
    }
    chars.into_iter().collect()
}

fn try_all(corpus: &[String], each: impl Fn(&str)) {
    let start = Instant::now();
    let mut runner = TestRunner::new(ProptestConfig { cases: TEXTS, ..ProptestConfig::default() });
    let strategy = (any::<Index>(), any::<Index>(), prop::collection::vec(change(), 1..12));
    runner
        .run(&strategy, |(one, other, changes)| {
            if start.elapsed() < TIME {
                let (one, other) = (&corpus[one.index(corpus.len())], &corpus[other.index(corpus.len())]);
                each(&changes.into_iter().fold(one.clone(), |text, change| changed(&text, other, change)));
            }
            Ok(())
        })
        .unwrap();
}

fn import(text: &str) {
    let around = Surroundings {
        sets: String::new(),
        listeners: Some(listeners("tcp LISTEN 0 1 10.0.0.1:80 *:*").unwrap()),
        interfaces: Some(vec!["lo".to_owned(), "v1".to_owned()]),
    };
    for around in [Surroundings::default(), around] {
        if let Ok(imported) = tproxy(text, &around) {
            ruleset(&imported);
        }
    }
}

#[test]
fn texts_like_those_of_iptables_and_ipset() {
    try_all(&corpus(&["save", "restore"]), import);
}

#[test]
fn texts_like_those_of_nft() {
    try_all(&corpus(&["json"]), import);
}

#[test]
fn texts_like_those_of_ss() {
    let text = "Netid State Recv-Q Send-Q Local Peer\nudp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"a\",pid=1,fd=2))\n\
        tcp LISTEN 0 1 [::]:80 [::]:*\ntcp LISTEN 0 1 *:443 *:*";
    try_all(&[text.to_owned()], |text| drop(listeners(text)));
}

/// Found by the test above: what no interface is named steers nothing.
#[test]
fn names_that_no_interface_has() {
    let corpus = corpus(&["json"]);
    let named: Vec<&String> = corpus.iter().filter(|text| text.contains("iifname")).collect();
    assert!(!named.is_empty());
    for text in named {
        for name in ["\\u007f1", "a/b", "a b", "longer-than-fifteen"] {
            import(&text.replace("\"v1\"", &format!("\"{name}\"")));
        }
    }
}
