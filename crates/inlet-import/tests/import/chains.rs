//! Several chains of nftables where packets come in: all of them are asked, by priority, and `accept` ends one of them
//! only.

use std::net::SocketAddr;

use inlet_core::{Packet, Protocol, lookup};
use inlet_import::{Imported, Surroundings, tproxy};
use serde_json::{Value, json};

fn base(name: &str, priority: i32) -> Value {
    json!({"chain": {"family": "ip", "table": "t", "name": name, "type": "filter", "hook": "prerouting", "prio": priority,
        "policy": "accept"}})
}

/// A rule for packets to a prefix; `then` is its other expressions.
fn rule(chain: &str, addr: &str, len: u8, then: &[Value]) -> Value {
    let to = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}},
        "right": {"prefix": {"addr": addr, "len": len}}}});
    let tcp = json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}});
    let expressions = [&[to, tcp], then].concat();
    json!({"rule": {"family": "ip", "table": "t", "chain": chain, "handle": 7, "expr": expressions}})
}

fn proxy(port: u16) -> Value {
    json!({"tproxy": {"family": "ip", "addr": "127.0.0.1", "port": port}})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn import(objects: &[Value]) -> Imported {
    tproxy(&json!({"nftables": objects}).to_string(), &Surroundings::default()).unwrap()
}

/// The port of the proxy that gets a TCP packet to this address.
fn proxy_of(imported: &Imported, to: &str) -> Option<u16> {
    let ruleset = crate::ruleset(imported);
    let local = SocketAddr::new(to.parse().unwrap(), 80);
    let rule = lookup(&ruleset, &Packet::new(Protocol::Tcp, local, "10.0.0.1:40000".parse().unwrap()))?;
    ruleset.service_name(rule.verdict).map(|name| name.trim_start_matches("tproxy-").parse().unwrap())
}

#[test]
fn the_chain_that_is_asked_last_has_the_last_word() {
    let early = [base("early", -200), rule("early", "10.1.0.0", 16, &[proxy(9001), accept()])];
    let late = [base("late", -100), rule("late", "10.1.1.0", 24, &[proxy(9002), accept()])];
    // In whichever order they are listed.
    for objects in [[early.clone(), late.clone()].concat(), [late, early].concat()] {
        let imported = import(&objects);
        assert_eq!(imported.left, []);
        assert_eq!((proxy_of(&imported, "10.1.1.1"), proxy_of(&imported, "10.1.2.1")), (Some(9002), Some(9001)));
    }
    // A wide rule of the last chain takes all from narrow ones of the first.
    let imported = import(&[
        base("early", -200),
        base("late", -100),
        rule("early", "10.1.1.0", 24, &[proxy(9001), accept()]),
        rule("late", "10.1.0.0", 16, &[proxy(9002)]),
    ]);
    assert_eq!((imported.left.len(), proxy_of(&imported, "10.1.1.1")), (0, Some(9002)));
}

#[test]
fn of_equal_priority_the_chain_made_first_is_asked_last() {
    let rules = |chain, port| rule(chain, "10.1.0.0", 16, &[proxy(port), accept()]);
    let imported = import(&[base("first", -150), base("second", -150), rules("first", 9001), rules("second", 9002)]);
    assert_eq!(proxy_of(&imported, "10.1.1.1"), Some(9001));
}

#[test]
fn accept_ends_its_own_chain_only() {
    let late = rule("late", "10.0.0.0", 8, &[proxy(9002)]);
    let chains = [base("early", -200), base("late", -100)];
    // What the first chain lets go meets the last one all the same.
    let imported = import(
        &[
            &chains[..],
            &[
                rule("early", "10.1.1.0", 24, &[accept()]),
                rule("early", "10.1.0.0", 16, &[proxy(9001), accept()]),
                late.clone(),
            ],
        ]
        .concat(),
    );
    assert_eq!(imported.left, []);
    assert_eq!((proxy_of(&imported, "10.1.1.1"), proxy_of(&imported, "10.1.2.1")), (Some(9002), Some(9002)));
    // What the last one lets go keeps what the first one gave it, which takes no rule when the last one has none for
    // it.
    let imported = import(
        &[
            &chains[..],
            &[
                rule("early", "10.1.0.0", 16, &[proxy(9001), accept()]),
                rule("late", "10.1.1.0", 24, &[accept()]),
                rule("late", "10.2.0.0", 16, &[proxy(9002)]),
            ],
        ]
        .concat(),
    );
    assert_eq!(imported.left, []);
    assert_eq!((proxy_of(&imported, "10.1.1.1"), proxy_of(&imported, "10.2.1.1")), (Some(9001), Some(9002)));
    // Also when it has one.
    let imported = import(
        &[
            &chains[..],
            &[rule("early", "10.1.0.0", 16, &[proxy(9001), accept()]), rule("late", "10.1.1.0", 24, &[accept()]), late],
        ]
        .concat(),
    );
    assert_eq!(imported.left, []);
    let got = ["10.1.1.1", "10.1.2.1", "10.2.1.1"].map(|to| proxy_of(&imported, to));
    assert_eq!(got, [Some(9001), Some(9002), Some(9002)]);
}

#[test]
fn without_accept_only_rules_of_the_same_chain_come_after() {
    // The chain with the lower number is asked before the other, not after it.
    let imported = import(&[
        base("early", -200),
        base("late", -100),
        rule("early", "10.1.0.0", 16, &[proxy(9001)]),
        rule("late", "10.1.0.0", 16, &[proxy(9002)]),
    ]);
    assert_eq!((imported.left.len(), proxy_of(&imported, "10.1.1.1")), (0, Some(9002)));
    let imported = import(&[
        base("in", -100),
        rule("in", "10.1.0.0", 16, &[proxy(9001)]),
        rule("in", "10.1.1.0", 24, &[proxy(9002)]),
    ]);
    // A later rule of the chain overrules the first, as no accept stands behind it.
    assert_eq!(imported.left, []);
    assert_eq!((proxy_of(&imported, "10.1.1.1"), proxy_of(&imported, "10.1.2.1")), (Some(9002), Some(9001)));
}

/// The usual first rule: packets of connections that a proxy has. What an earlier chain gave a socket is such a packet
/// too.
fn of_sockets(chain: &str) -> Value {
    let tcp = json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}});
    let socket = json!({"match": {"op": "==", "left": {"socket": {"key": "transparent"}}, "right": 1}});
    json!({"rule": {"family": "ip", "table": "t", "chain": chain, "handle": 6, "expr": [tcp, socket, accept()]}})
}

#[test]
fn a_chain_that_lets_packets_with_a_socket_go_overrules_nobody() {
    let chains = [base("early", -200), base("late", -100)];
    let rules = [rule("early", "10.1.1.0", 24, &[proxy(9001)]), rule("late", "10.1.0.0", 16, &[proxy(9002), accept()])];
    let imported = import(&[&chains[..], &[of_sockets("late")], &rules].concat());
    assert_eq!(imported.left, []);
    assert_eq!((proxy_of(&imported, "10.1.1.1"), proxy_of(&imported, "10.1.2.1")), (Some(9001), Some(9002)));
    // Behind the rule that gives the socket it lets nothing go that is not settled.
    let imported = import(&[&chains[..], &rules, &[of_sockets("late")]].concat());
    assert_eq!((imported.left.len(), proxy_of(&imported, "10.1.1.1")), (0, Some(9002)));
    // A chain between the two is overruled by the last and by nobody else.
    let mut three = [&chains[..], &[of_sockets("late"), base("last", -50)], &rules].concat();
    three.push(rule("last", "10.1.1.128", 25, &[proxy(9003), accept()]));
    let imported = import(&three);
    let got = ["10.1.1.129", "10.1.1.1", "10.1.2.1"].map(|to| proxy_of(&imported, to));
    assert_eq!((imported.left.len(), got), (0, [Some(9003), Some(9001), Some(9002)]));
}
