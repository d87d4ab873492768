//! `explain` where more than the destination says what is local.

use std::time::Duration;

use inlet_testkit::{Dial, End, Listen, Namespace, Netns, TcpServer, dial_tcp, veth};
use serde_json::{Value, json};

use crate::{Host, PATIENCE, at};

#[test]
fn explain_lets_policy_routing_count() {
    let Some(host) = Host::up() else { return };
    let (own, client) = (Namespace::current().unwrap(), Netns::unentered().unwrap());
    let end = |namespace, addresses| End { namespace, name: "v0", addresses };
    veth(end(&own, &["10.9.0.1/24"]), end(&client, &["10.9.0.2/24"])).unwrap();
    client.ip(&["route", "add", "198.51.100.0/24", "via", "10.9.0.1"]).unwrap();
    host.ok(&["bind", "web", "tcp", "198.51.100.0/24", "80"]);
    // Its answers may leave from an address that is not in the table of local ones.
    let _web = TcpServer::spawn_with("web", at("127.0.0.1:8080"), Listen::new().transparent()).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    // Who gets no answer at all waits for as long as this says.
    let from_outside = |timeout| {
        let dial = Dial::new().timeout(timeout);
        client.enter(|| dial_tcp(at("198.51.100.7:80"), &dial).name().unwrap_or("nobody").to_owned())
    };
    let question = ["explain", "tcp", "198.51.100.7:80"];
    let exact = [&question[..], &["--from", "10.9.0.2:40000", "--iface", "v0"]].concat();
    // What is asked of the address, and what is said of it.
    let address = |question: &[&str]| {
        let said = host.json(question)["address"].clone();
        let keys = ["local", "route", "policy_rules", "exact", "answers"];
        Value::Array(keys.iter().map(|key| said[key].clone()).collect())
    };
    assert_eq!(address(&question), json!([false, null, [], true, null]), "the usual rules are none");
    assert!(!host.ok(&question).contains("policy"));

    // What comes in by that interface finds the prefix local, and nothing else does.
    own.ip(&["route", "add", "local", "198.51.100.0/24", "dev", "lo", "table", "100"]).unwrap();
    own.ip(&["rule", "add", "pref", "500", "iif", "v0", "lookup", "100"]).unwrap();
    assert_eq!(from_outside(PATIENCE), "web");
    let rules = json!(["500: from all iif v0 lookup 100"]);
    assert_eq!(address(&question), json!([false, null, rules, false, null]));
    let unless = json!([{"by": "500: from all iif v0 lookup 100", "local": true}]);
    assert_eq!(host.json(&question)["address"]["unless"], unless, "what it depends on");
    let said = host.ok(&question);
    assert!(said.contains("by 1 policy routing rule (500: from all iif v0 lookup 100): "), "{said}");
    assert!(
        said.contains("judged by the destination alone; to have them count: --from SRC:PORT --iface NAME"),
        "{said}"
    );
    // An ordinary socket could not answer.
    assert_eq!(address(&exact), json!([true, "local 198.51.100.0/24 dev lo table 100", rules, true, false]));
    assert!(host.ok(&exact).contains("answer    only by a socket with IP_TRANSPARENT"), "{}", host.ok(&exact));
    assert_eq!(host.json(&exact)["address"]["unless"], json!([]));
    assert!(host.ok(&exact).contains("judged for this source and interface"));

    // A rule for another source does not count for this one, and the story follows.
    own.ip(&["rule", "del", "pref", "500"]).unwrap();
    own.ip(&["rule", "add", "pref", "501", "from", "10.9.0.66", "lookup", "100"]).unwrap();
    assert_eq!(from_outside(Duration::from_secs(1)), "nobody");
    let said = host.json(&exact);
    assert_eq!(said["address"]["local"], false);
    assert_eq!(said["address"]["policy_rules"], json!(["501: from 10.9.0.66/32 lookup 100"]));
    // Each family has its own.
    assert_eq!(host.json(&["explain", "tcp", "[2001:db8::1]:80"])["address"]["policy_rules"], json!([]));
}
