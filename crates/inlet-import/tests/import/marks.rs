//! Marks that others give, or rules whose conditions a ruleset cannot ask: the ruleset asks for the mark.

use std::net::SocketAddr;

use inlet_core::{Packet, Protocol, lookup};
use inlet_import::{Imported, Surroundings, tproxy};

use crate::{ruleset, toml};

const TO: &str = "-j TPROXY --on-port 9000 --on-ip 0.0.0.0 --tproxy-mark 0x80000000/0x80000000";

fn import(rules: &str) -> Imported {
    let text = format!("*mangle\n:PREROUTING ACCEPT [0:0]\n:ONE - [0:0]\n:TWO - [0:0]\n{rules}\nCOMMIT\n");
    tproxy(&text, &Surroundings::default()).unwrap()
}

/// Whether the proxy gets a TCP packet from this address and interface with this mark, as the file says.
fn is_steered(imported: &Imported, from: &str, ifindex: u32, mark: Option<u32>) -> bool {
    let ruleset = ruleset(imported);
    let (local, remote): (SocketAddr, SocketAddr) =
        ("192.0.2.7:80".parse().unwrap(), format!("{from}:40000").parse().unwrap());
    let packet = Packet { ifindex, mark, ..Packet::new(Protocol::Tcp, local, remote) };
    lookup(&ruleset, &packet).is_some_and(|rule| ruleset.service_name(rule.verdict).is_some())
}

/// For which of some marks the proxy gets packets.
fn steered(imported: &Imported, marks: &[u32]) -> Vec<u32> {
    let from = "10.0.0.1";
    marks.iter().copied().filter(|mark| is_steered(imported, from, 1, Some(*mark))).collect()
}

#[test]
fn a_mark_that_comes_from_elsewhere_is_asked_for() {
    let imported = import(&format!("-A PREROUTING -p tcp -m mark --mark 0x7 {TO}"));
    assert_eq!((imported.left.as_slice(), steered(&imported, &[0, 7, 0x17])), (&[][..], vec![7]));
    assert!(toml(&imported).contains(r#"mark = "0x7""#), "{}", toml(&imported));
    assert!(!is_steered(&imported, "10.0.0.1", 1, None));
    // A mask, a negation, and a rule before it.
    let imported = import(&format!(
        "-A PREROUTING -p tcp -m mark --mark 0x3/0xf -j RETURN\n-A PREROUTING -p tcp -m mark --mark 0x1/0x1 {TO}"
    ));
    assert_eq!(imported.left, []);
    assert_eq!(steered(&imported, &[0, 1, 2, 3, 5, 0x13, 0x101]), [1, 5, 0x101]);
    let imported = import(&format!("-A PREROUTING -p tcp -m mark ! --mark 0x2/0x2 {TO}"));
    assert_eq!((imported.left.as_slice(), steered(&imported, &[0, 1, 2, 3, 4])), (&[][..], vec![0, 1, 4]));
}

#[test]
fn a_mark_by_what_a_ruleset_cannot_ask_is_kept_and_asked_for() {
    let imported = import(&format!(
        "-A PREROUTING -m dscp --dscp 0x22 -j MARK --set-xmark 0x10/0xf0\n-A PREROUTING -j ONE\n\
         -A ONE -d 192.0.2.0/24 -p tcp -m mark --mark 0x10/0xf0 {TO}"
    ));
    let told: Vec<(&str, bool)> = imported.left.iter().map(|left| (left.place.as_str(), left.todo)).collect();
    assert_eq!(told, [("line 5", false)], "{:?}", imported.left);
    assert!(imported.left[0].why.starts_with("keep this rule"), "{:?}", imported.left);
    assert_eq!(steered(&imported, &[0, 0x10, 0x11, 0x20, 0x110]), [0x10, 0x11, 0x110]);
    // What a rule for a source or an interface says besides stays true.
    let imported = import(&format!(
        "-A PREROUTING -m dscp --dscp 0x22 -j MARK --set-xmark 0x10/0xf0\n\
         -A PREROUTING -s 10.0.0.0/24 -i if2 -j RETURN\n\
         -A PREROUTING -s 10.0.1.0/24 -p tcp {TO}\n\
         -A PREROUTING -i if3 -p tcp {TO}\n\
         -A PREROUTING -i if3 -j RETURN\n\
         -A PREROUTING -p tcp -m mark --mark 0x10/0xf0 {TO}"
    ));
    for mark in [Some(0), Some(0x10), Some(0x20), None] {
        let has = mark == Some(0x10);
        let expected = [has, false, true, true, true, has];
        let asked =
            [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.1.1", 1), ("10.0.1.1", 2), ("10.0.0.1", 3), ("10.9.9.9", 2)];
        assert_eq!(asked.map(|(from, on)| is_steered(&imported, from, on, mark)), expected, "{mark:?}");
    }
}

/// Marks that rules give by what a ruleset can ask need no mark in it.
#[test]
fn a_mark_by_what_a_ruleset_can_ask_is_no_mark() {
    let imported = import(&format!(
        "-A PREROUTING -d 192.0.2.0/24 -j MARK --set-mark 5\n-A PREROUTING -p tcp -m mark --mark 5 {TO}"
    ));
    assert_eq!(imported.left, []);
    assert!(!toml(&imported).contains("mark ="), "{}", toml(&imported));
    assert_eq!(steered(&imported, &[0, 5]), [0, 5]);
}

#[test]
fn what_marks_do_not_decide_is_told_as_before() {
    let todo = |rules: &str| {
        let imported = import(rules);
        assert!(!toml(&imported).contains("mark ="), "{}", toml(&imported));
        imported.left.iter().filter(|left| left.todo).map(|left| left.why.clone()).collect::<Vec<_>>().join("; ")
    };
    let changed = "it changes a mark that an earlier rule asks for";
    let marked =
        format!("-A PREROUTING -p tcp -m mark --mark 0x7 -j ONE\n-A ONE -j MARK --set-mark 9\n-A ONE -p tcp {TO}");
    assert!(todo(&marked).contains("no rule gives packets this mark"), "{changed}: {}", todo(&marked));
    // Two marks that one packet can have, with as many bits, tie.
    let tie =
        format!("-A PREROUTING -p tcp -m mark --mark 0x1/0x1 {TO}\n-A PREROUTING -p tcp -m mark --mark 0x2/0x2 {TO}");
    assert!(todo(&tie).contains("no rule gives packets this mark"), "{}", todo(&tie));
    // Another condition that nobody can ask stays in the way.
    let limit = format!("-A PREROUTING -p tcp -m mark --mark 0x7 -m limit --limit 5/sec {TO}");
    assert!(todo(&limit).contains("no condition -m limit"), "{}", todo(&limit));
}
