//! Commands that list and explain.

use inlet_testkit::{Dial, Listen, TcpServer, dial_tcp};
use serde_json::json;

use crate::{Host, at, words};

/// From the most to the least specific, in no order of the command line.
fn bind_in_disorder(host: &Host) {
    host.ok(&["bind", "all", "tcp", "0.0.0.0/0", "any"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "8000-8999"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "any", "--from", "203.0.113.0/24"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any", "--iface", "lo"]);
    host.ok(&["bind", "--pass", "tcp", "192.0.2.7", "22"]);
    host.ok(&["bind", "dns", "udp", "2001:db8::/32", "53"]);
}

#[test]
fn rules_are_in_match_order() {
    let Some(host) = Host::up() else { return };
    bind_in_disorder(&host);
    let said = host.ok(&["rules"]);
    let expected = [
        vec!["PROTOCOL", "LOCAL", "PORTS", "FROM", "IFACE", "VERDICT"],
        vec!["tcp", "192.0.2.7/32", "22", "any", "any", "pass"],
        vec!["udp", "2001:db8::/32", "53", "any", "any", "->", "dns"],
        vec!["tcp", "192.0.2.0/24", "8000-8999", "any", "any", "->", "web"],
        vec!["tcp", "192.0.2.0/24", "any", "203.0.113.0/24", "any", "refuse"],
        vec!["tcp", "192.0.2.0/24", "any", "any", "lo", "->", "web"],
        vec!["tcp", "192.0.2.0/24", "any", "any", "any", "->", "web"],
        vec!["tcp", "0.0.0.0/0", "any", "any", "any", "->", "all"],
    ];
    assert_eq!(words(&said), expected);
    let column = said.lines().next().unwrap().find("VERDICT").unwrap();
    assert!(said.lines().all(|line| line.as_bytes()[column - 1] == b' ' && line.as_bytes()[column] != b' '), "{said}");
    let as_json = host.json(&["rules"]);
    assert_eq!(as_json.as_array().unwrap().len(), 7);
    let refuse = json!({"protocol": "tcp", "local": "192.0.2.0/24", "ports": "any", "from": "203.0.113.0/24",
        "iface": null, "mark": null, "verdict": "refuse", "service": null});
    assert_eq!(as_json[3], refuse);
    assert_eq!((&as_json[4]["iface"], &as_json[4]["service"]), (&"lo".into(), &"web".into()));
}

#[test]
fn rules_are_narrowed() {
    let Some(host) = Host::up() else { return };
    bind_in_disorder(&host);
    let count = |filter: &[&str]| host.json(&[&["rules"], filter].concat()).as_array().unwrap().len();
    assert_eq!(count(&["any"]), 7);
    assert_eq!(count(&["udp"]), 1);
    assert_eq!(count(&["any", "any", "53"]), 5);
    assert_eq!(count(&["tcp", "192.0.2.7"]), 6, "rules that cover it");
    assert_eq!(count(&["tcp", "192.0.0.0/16"]), 6, "rules inside it");
    assert_eq!(count(&["tcp", "192.0.2.8"]), 5);
    assert_eq!(count(&["tcp", "198.51.100.0/24"]), 1);
    assert_eq!(count(&["tcp", "192.0.2.7", "22"]), 5);
    assert_eq!(count(&["tcp", "192.0.2.8", "8000-8001"]), 5);
    assert_eq!(count(&["udp", "::/0", "54"]), 0);
    assert_eq!(host.ok(&["rules", "udp", "::/0", "54"]), "no rule matches (7 rules in all)\n");
}

#[test]
fn explain_agrees_with_the_traffic() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    let said = host.json(&["explain", "tcp", "192.0.2.9:80"]);
    assert_eq!(
        (&said["verdict"], &said["outcome"], &said["socket"]),
        (&"service".into(), &"refuse".into(), &json!(null))
    );
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    let said = host.json(&["explain", "tcp", "192.0.2.9:80", "--from", "192.0.2.1:5000"]);
    assert_eq!(said["rule"]["local"], "192.0.2.0/24");
    assert_eq!((&said["service"], &said["outcome"]), (&"web".into(), &"socket".into()));
    assert_eq!(said["socket"]["local"], "127.0.0.1:8080");
    assert_eq!(said["socket"]["owners"][0]["pid"].to_string(), pid);
    assert_eq!((&said["program"]["asked"], &said["program"]["reason"]), (&true.into(), &json!(null)));
    assert_eq!(said["packet"]["from"], "192.0.2.1:5000");
    assert_eq!(dial_tcp(at("192.0.2.9:80"), &Dial::new()).name(), Some("web"));
    let said = host.ok(&["explain", "tcp", "192.0.2.9:80"]);
    assert!(said.contains("tcp 192.0.2.0/24 any -> web") && said.contains("the live program agrees"), "{said}");
    assert!(said.contains("tcp:127.0.0.1:8080") && said.contains(&format!("pid {pid} (")), "{said}");
    // Asking moved nothing.
    assert_eq!(host.json(&["status"])["services"][0]["counters"]["steered"], 1);
    let said = host.json(&["explain", "udp", "192.0.2.9:80"]);
    assert_eq!((&said["rule"], &said["verdict"], &said["outcome"]), (&json!(null), &json!(null), &"pass".into()));
    drop(server);
}

#[test]
fn explain_tells_the_story() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    // Two listeners of one port bear each other with SO_REUSEPORT only.
    let listen = |name, addr| TcpServer::spawn_with(name, at(addr), Listen::new().reuseport()).unwrap();
    let (_exact, _wildcard) = (listen("exact", "192.0.2.9:8080"), listen("wildcard", "0.0.0.0:8080"));
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "any"]);
    host.ok(&["bind", "--pass", "tcp", "192.0.2.0/24", "8000-8999"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "8080", "--from", "203.0.113.0/24"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.9", "8080", "--iface", "lo"]);
    let said = host.json(&["explain", "tcp", "192.0.2.9:8080"]);
    assert_eq!(
        said["address"],
        json!({"local": true, "route": "local 192.0.2.0/24 dev lo", "dropped": null, "policy_rules": [], "exact": true,
            "unless": [], "answers": true, "model": null, "unknown": []})
    );
    let standing = |n: usize| (said["rules"][n]["standing"].clone(), said["rules"][n]["by"].clone());
    assert_eq!(standing(0), ("other_interface".into(), json!(null)));
    assert_eq!(standing(1), ("other_source".into(), json!(null)));
    assert_eq!((standing(2), &said["rules"][2]["rule"]), (("wins".into(), json!(null)), &said["rule"]));
    assert_eq!(standing(3), ("beaten".into(), "ports".into()));
    // The rule passes, so what the ordinary lookup gives is what a client meets.
    let ordinary = |addr: &str| {
        let without = host.json(&["explain", "tcp", addr])["without"].clone();
        (without["outcome"].clone(), without["sockets"][0]["local"].clone(), without["sockets"][1].clone())
    };
    assert_eq!(ordinary("192.0.2.9:8080"), ("socket".into(), "192.0.2.9:8080".into(), json!(null)));
    assert_eq!(ordinary("192.0.2.8:8080"), ("socket".into(), "0.0.0.0:8080".into(), json!(null)));
    assert_eq!(ordinary("192.0.2.8:8081"), ("refuse".into(), json!(null), json!(null)));
    assert_eq!(ordinary("198.51.100.1:8080"), ("not_local".into(), json!(null), json!(null)));
    assert_eq!(dial_tcp(at("192.0.2.8:8080"), &Dial::new()).name(), Some("wildcard"));
    host.ok(&["unbind", "tcp", "192.0.2.9", "8080", "--iface", "lo"]);
    assert_eq!(dial_tcp(at("192.0.2.9:8080"), &Dial::new()).name(), Some("exact"));
    let said = host.ok(&["explain", "tcp", "192.0.2.9:8080"]);
    assert!(said.contains("beats     tcp 192.0.2.0/24 any -> refuse, by a narrower port range"), "{said}");
    assert!(said.contains("ordinary  tcp:192.0.2.9:8080"), "{said}");
    let said = host.ok(&["explain", "udp", "239.1.1.1:8080"]);
    assert!(said.contains("multicast") && !said.contains("ip route add"), "{said}");
    let said = host.ok(&["explain", "tcp", "198.51.100.1:8080"]);
    assert!(said.contains("not local here") && said.contains("ip route add local 198.51.100.1/32 dev lo"), "{said}");
}

#[test]
fn explain_by_a_file_asks_nobody_and_changes_nothing() {
    let Some(host) = Host::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let rule = r#"{"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#;
    std::fs::write(&file, format!(r#"{{"services": {{"new": {{}}, "web": {{}}}}, "rules": [{rule}]}}"#)).unwrap();
    let question = ["explain", "tcp", "192.0.2.9:80", "--file", file.to_str().unwrap()];
    let before_up = host.json(&question);
    assert_eq!((&before_up["service"], &before_up["outcome"]), (&"web".into(), &"refuse".into()));
    let address = &before_up["address"];
    assert_eq!(
        (&address["local"], &address["route"], &address["answers"]),
        (&false.into(), &json!(null), &json!(null))
    );
    host.ok(&["up"]);
    // In force the service has another number than in the file.
    host.ok(&["service", "set", "web"]);
    let _server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    let said = host.json(&question);
    assert_eq!((&said["outcome"], &said["socket"]["local"]), (&"socket".into(), &"127.0.0.1:8080".into()));
    assert_eq!(said["program"]["reason"], "the ruleset asked about is not in force");
    assert!(said["notes"].to_string().contains("which are not in force"), "{said}");
    assert_eq!(host.json(&["status"])["rules"], 0);
    std::fs::write(&file, "{").unwrap();
    let ran = host.run(&question);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("rules.json:1:2") && ran.stderr.ends_with("rules.json: 1 error\n"), "{}", ran.stderr);
}

#[test]
fn explain_names_one_of_several_sockets_only_with_a_source() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    let _servers = ["127.0.0.1:8080", "127.0.0.2:8080"].map(|addr| TcpServer::spawn("web", at(addr)).unwrap());
    host.ok(&["register", "web", "--pid", &std::process::id().to_string()]);
    let question = ["explain", "tcp", "192.0.2.9:80"];
    let said = host.ok(&question);
    assert_eq!(said.matches("one of 2 sockets: tcp:127.0.0.").count(), 2, "{said}");
    let said = host.json(&question);
    assert_eq!((&said["socket"], &said["outcome"]), (&json!(null), &"socket".into()));
    assert_eq!(said["candidates"].as_array().unwrap().len(), 2);
    assert_eq!(said["notes"], json!(["no source was given, and among several sockets it decides: --from SRC:PORT"]));
    let said = host.json(&[&question[..], &["--from", "192.0.2.1:5000"]].concat());
    assert!(said["socket"]["local"].is_string() && said["notes"] == json!([]), "{said}");
}

#[test]
fn explain_says_what_it_was_not_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80", "--from", "203.0.113.0/24"]);
    let said = host.ok(&["explain", "tcp", "192.0.2.9:80"]);
    assert!(said.contains("no source was given, and 1 rule for this address and port names one"), "{said}");
    let said = host.json(&["explain", "tcp", "192.0.2.9:80", "--from", "203.0.113.9:1000"]);
    assert_eq!((&said["verdict"], &said["notes"]), (&"refuse".into(), &json!([])));
    host.ok(&["unbind", "tcp", "192.0.2.0/24", "80", "--from", "203.0.113.0/24"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80", "--iface", "lo"]);
    let said = host.ok(&["explain", "tcp", "192.0.2.9:80"]);
    assert!(said.contains("no interface was given"), "{said}");
    let said = host.json(&["explain", "tcp", "192.0.2.9:80", "--iface", "lo"]);
    assert_eq!((&said["verdict"], &said["program"]["asked"]), (&"refuse".into(), &false.into()));
    host.fails(&["explain", "tcp", "192.0.2.9:80", "--iface", "no-such"], "no interface \"no-such\"");
}

#[test]
fn status_and_services_have_their_shapes() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80,81"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "82"]);
    let server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let pid = std::process::id().to_string();
    let missed = dial_tcp(at("192.0.2.9:80"), &Dial::new());
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    let steered = dial_tcp(at("192.0.2.9:81"), &Dial::new());
    let _refused = dial_tcp(at("192.0.2.9:82"), &Dial::new());
    assert_eq!((missed.name(), steered.name()), (None, Some("web")));
    let status = host.json(&["status"]);
    assert_eq!((&status["generation"], &status["rules"], &status["sockets"]), (&3.into(), &3.into(), &1.into()));
    assert_eq!(status["counters"], json!({"passed": 0, "refused": 1}));
    let web = &status["services"][0];
    assert_eq!((&web["name"], &web["on_missing"], &web["rules"]), (&"web".into(), &"refuse".into(), &2.into()));
    assert_eq!(web["counters"], json!({"steered": 1, "missed": 1, "failed": 0, "refused": 1}));
    let socket = &web["sockets"][0];
    assert_eq!((&socket["protocol"], &socket["local"]), (&"tcp".into(), &"127.0.0.1:8080".into()));
    assert_eq!((&socket["families"], &socket["receiving"]), (&json!(["ipv4"]), &true.into()));
    assert!(socket["cookie"].is_u64() && socket["owners"][0]["command"].is_string(), "{socket}");
    assert_eq!(host.json(&["services"]), status["services"]);
    let said = host.ok(&["status"]);
    assert!(said.contains("packets: 1 steered, 1 missed, 1 refused, 0 failed"), "{said}");
    assert!(said.contains("tcp:127.0.0.1:8080") && said.contains(&format!("pid {pid} (")), "{said}");
    assert_eq!(words(&host.ok(&["services"]))[1], ["web", "refuse", "-", "2", "1", "1", "1"]);
    drop(server);
    assert!(host.ok(&["status"]).contains("no live socket"));
}
