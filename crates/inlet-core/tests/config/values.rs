//! Values: sets of prefixes, descriptions, excepted ports, and what bad ones get.

use inlet_core::config::{self, Routes};

use crate::{Files, lines, parse, parse_json, parse_with};

#[test]
fn sets_stand_for_their_prefixes() {
    let text = r#"{"services": {"web": {}},
        "sets": {"feed": {"file": "feed.txt"}, "office": ["203.0.113.0/24", "203.0.113.0/24", "10.0.0.0/8"]},
        "rules": [{"to": "web", "protocol": "tcp", "local": ["@feed", "192.0.2.128/25"], "ports": 80},
                  {"verdict": "refuse", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 22, "from": "@office"}]}"#;
    assert_eq!(
        lines(&parse_json(text).unwrap().ruleset),
        [
            "tcp 192.0.2.0/24 22 from 10.0.0.0/8 -> refuse",
            "tcp 192.0.2.0/24 22 from 203.0.113.0/24 -> refuse",
            "tcp 192.0.2.0/24 80 -> web",
            "tcp 192.0.2.128/25 80 -> web",
            "tcp 198.51.100.7/32 80 -> web",
            "tcp 2001:db8::/32 80 -> web",
        ]
    );
}

#[test]
fn bad_sets_are_named() {
    let with = |sets: &str, local: &str| {
        format!(
            r#"{{"services": {{}}, "sets": {sets}, "rules": [{{"verdict": "pass", "protocol": "tcp", "local": "{local}", "ports": 80}}]}}"#
        )
    };
    let table = [
        (
            with(r#"{"feed": {"file": "bad.txt"}}"#, "@feed"),
            "bad.txt:2:1: 192.0.2.1/24 has host bits set; the prefix is 192.0.2.0/24",
        ),
        (with(r#"{"feed": {"file": "none.txt"}}"#, "@feed"), "cannot read none.txt"),
        (with(r#"{"feed": ["192.0.2.1/24"]}"#, "@feed"), "the prefix is 192.0.2.0/24"),
        (with(r#"{"feed": {"path": "feed.txt"}}"#, "@feed"), "unknown key \"path\"; the keys here are: file"),
        (with(r#"{"feed": {"file": "feed.txt", "more": 1}}"#, "@feed"), "unknown key \"more\""),
        (with(r#"{"feed": [], "feed": []}"#, "@feed"), "set \"feed\" is there twice"),
        (with("{}", "@feed"), "no set \"feed\"; list it under sets"),
    ];
    for (text, expected) in table {
        let error = parse_json(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn descriptions_are_read_and_written() {
    let text = r#"{"services": {
  "a": {"on_missing": "refuse", "listen": ["tcp:127.0.0.1:80","tcp:[::1]:80"], "unit": "a.service"},
  "b": {"on_missing": "pass", "listen": ["udp:*:53"], "cgroup": "/b", "user": "b"}},
 "rules": []}
"#;
    let ruleset = parse_json(text).unwrap().ruleset;
    let mut written = Vec::new();
    config::write(&ruleset, Routes::Leave, &mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[test]
fn bad_descriptions_are_named() {
    let service = |service: &str| format!(r#"{{"services": {{"a": {service}}}, "rules": []}}"#);
    let table = [
        (service(r#"{"listen": "tcp:80"}"#), "is not a protocol, an address and a port"),
        (service(r#"{"listen": []}"#), "an empty list; give at least one value"),
        (service(r#"{"unit": "a.service"}"#), "say more about \"listen\""),
        (service(r#"{"listen": "tcp:*:80", "unit": "a.service", "cgroup": "/a"}"#), "\"unit\" or \"cgroup\", not both"),
        (service(r#"{"listen": "tcp:*:80", "cgroup": "a"}"#), "is not the path of a control group"),
        (
            r#"{"services": {"a": {"listen": "tcp:*:80"}, "b": {"listen": "tcp:127.0.0.1:80"}}, "rules": []}"#
                .to_owned(),
            "services a and b could both claim a socket at tcp:127.0.0.1:80",
        ),
    ];
    for (text, expected) in table {
        let error = parse_json(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn excepted_ports_pass() {
    let text = r#"
        services.web = {}
        [[rules]]
        to = "web"
        protocol = ["tcp", "udp"]
        local = "192.0.2.0/24"
        ports = "any"
        except = [22, "9100-9110"]
        from = "10.0.0.0/8"
        iface = "if3"
    "#;
    assert_eq!(
        lines(&parse("inlet.toml", text).unwrap().ruleset),
        [
            "tcp 192.0.2.0/24 any from 10.0.0.0/8 iface if3 -> web",
            "tcp 192.0.2.0/24 22 from 10.0.0.0/8 iface if3 -> pass",
            "tcp 192.0.2.0/24 9100-9110 from 10.0.0.0/8 iface if3 -> pass",
            "udp 192.0.2.0/24 any from 10.0.0.0/8 iface if3 -> web",
            "udp 192.0.2.0/24 22 from 10.0.0.0/8 iface if3 -> pass",
            "udp 192.0.2.0/24 9100-9110 from 10.0.0.0/8 iface if3 -> pass",
        ]
    );
}

#[test]
fn sources_and_local_prefixes_meet_by_family() {
    let rule = |local: &str, from: &str| {
        format!("rules = [{{ verdict = \"pass\", protocol = \"tcp\", ports = 80, local = {local}, from = {from} }}]")
    };
    let both = r#"["192.0.2.0/24", "2001:db8::/64"]"#;
    let sources = r#"["10.0.0.0/8", "fd00::/8"]"#;
    assert_eq!(
        lines(&parse("inlet.toml", &rule(both, sources)).unwrap().ruleset),
        ["tcp 192.0.2.0/24 80 from 10.0.0.0/8 -> pass", "tcp 2001:db8::/64 80 from fd00::/8 -> pass"]
    );
    for (local, from) in
        [(both, r#""10.0.0.0/8""#), (r#""192.0.2.0/24""#, sources), (r#""2001:db8::/64""#, r#""10.0.0.0/8""#)]
    {
        let error = parse("inlet.toml", &rule(local, from)).unwrap_err();
        assert!(error.contains("can match nothing: one is IPv4 and the other IPv6"), "{error}");
    }
}

/// A list of addresses may have comments as the lists of others have them.
#[test]
fn a_semicolon_begins_a_comment_in_a_list() {
    let rules = r#""rules": [{"verdict": "pass", "protocol": "tcp", "local": "@feed", "ports": 80}]"#;
    let text = format!(r#"{{"services": {{}}, "sets": {{"feed": {{"file": "feed.txt"}}}}, {rules}}}"#);
    let mut files = Files(vec![("feed.txt", "192.0.2.0/24\n; Spamhaus DROP List; 2026\n")]);
    let parsed = parse_with(&mut files, "inlet.json", &text).unwrap();
    assert_eq!(parsed.ruleset.len(), 1);
}

/// What stands in a file is quoted whole, whatever it is, and what to do about it is told apart from it.
#[test]
fn text_with_a_semicolon_stays_whole() {
    let mut files = Files(vec![]);
    // Names of services, which rules that tie are told with.
    let text = r#"{"services": {"a; b": {}, "c": {}}, "rules": [
        {"to": "a; b", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80},
        {"to": "c", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}]}"#;
    let found = parse_with(&mut files, "inlet.json", text).unwrap_err();
    assert!(found.list[0].message.contains("-> a; b` and `"), "{found}");
    assert_eq!(found.list[0].help.as_deref(), Some("make one narrower or remove one"));
}
