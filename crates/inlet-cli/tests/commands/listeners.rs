//! `listeners`: what rules leave and give to whom.

use inlet_testkit::{Dial, TcpServer, dial_tcp};
use serde_json::{Value, json};

use crate::{Host, at, words};

#[test]
fn listeners_receive_what_rules_leave_and_give() {
    let Some(host) = Host::new() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let _wildcard = TcpServer::spawn("wildcard", at("0.0.0.0:8080")).unwrap();
    let _server = TcpServer::spawn("web", at("127.0.0.1:7777")).unwrap();
    let claims = |said: &Value, local: &str| {
        let all = said["listeners"].as_array().unwrap().clone();
        all.into_iter().find(|it| it["local"] == local).unwrap()["receives"].clone()
    };
    // Without an instance all keep what they are bound to.
    let said = host.json(&["listeners"]);
    assert_eq!(said["services"], json!([]));
    let claim = |local: &str, ports: &str, except: Value| {
        json!([{"protocol": "tcp", "local": local, "ports": ports, "from": null, "iface": null, "mark": null,
            "except": except, "more_exceptions": 0}])
    };
    assert_eq!(claims(&said, "0.0.0.0:8080"), claim("0.0.0.0/0", "8080", json!([])));
    host.ok(&["up"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    host.ok(&["bind", "--pass", "tcp", "192.0.2.0/24", "22"]);
    host.ok(&["register", "web", "--pid", &std::process::id().to_string(), "--listen", "tcp:127.0.0.1:7777"]);
    let said = host.json(&["listeners"]);
    let part = |ports: &str| json!([{"protocol": "tcp", "local": "192.0.2.0/24", "ports": ports, "from": null, "iface": null, "mark": null}]);
    assert_eq!(claims(&said, "0.0.0.0:8080"), claim("0.0.0.0/0", "8080", part("8080")));
    assert_eq!(claims(&said, "127.0.0.1:7777"), claim("127.0.0.1/32", "7777", json!([])));
    let services = json!([{"name": "web", "sockets": 1, "receiving": 1, "only_on": [], "receives": claim("192.0.2.0/24", "any", part("22"))}]);
    assert_eq!(said["services"], services);
    // As it is shown, and as it is.
    let shown = host.ok(&["listeners"]);
    let lines = words(&shown);
    assert!(lines.iter().any(|line| line.as_slice() == ["service", "web", "any", "192.0.2.0/24"]), "{shown}");
    assert!(lines.iter().any(|line| line.as_slice() == ["bind", "8080", "0.0.0.0/0"]), "{shown}");
    assert_eq!(dial_tcp(at("192.0.2.9:8080"), &Dial::new()).name(), Some("web"));
    host.ok(&["bind", "--refuse", "tcp", "0.0.0.0/0", "8080"]);
    assert_eq!(claims(&host.json(&["listeners"]), "0.0.0.0:8080"), json!([]));
    assert!(host.ok(&["listeners"]).contains("nothing"), "{shown}");
}
