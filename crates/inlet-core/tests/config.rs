//! The JSON form: sets of prefixes, and what bad ones get.
#![allow(clippy::unwrap_used)]

use inlet_core::{Builder, Ruleset, config};

fn parse(text: &str) -> Result<Ruleset, String> {
    let mut builder = Builder::new();
    let mut files = |name: &str| match name {
        "feed.txt" => Ok("# a feed\n192.0.2.0/24\n\n198.51.100.7 # a host\n192.0.2.0/24\n2001:db8::/32\n".to_owned()),
        "bad.txt" => Ok("192.0.2.0/24\n192.0.2.1/24\n".to_owned()),
        other => Err(format!("cannot read {other}")),
    };
    config::parse(text, &mut builder, &mut files).map_err(|error| error.to_string())?;
    builder.finish().map_err(|error| error.to_string())
}

fn lines(ruleset: &Ruleset) -> Vec<String> {
    ruleset.rules().map(|rule| ruleset.named(&rule).to_string()).collect()
}

#[test]
fn sets_stand_for_their_prefixes() {
    let text = r#"{"services": {"web": {}},
        "sets": {"feed": {"file": "feed.txt"}, "office": ["203.0.113.0/24", "203.0.113.0/24", "10.0.0.0/8"]},
        "rules": [{"to": "web", "protocol": "tcp", "local": ["@feed", "192.0.2.128/25"], "ports": 80},
                  {"verdict": "refuse", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 22, "from": "@office"}]}"#;
    assert_eq!(
        lines(&parse(text).unwrap()),
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
        (with(r#"{"feed": {"file": "bad.txt"}}"#, "@feed"), "bad.txt, line 2: 192.0.2.1/24 has host bits set"),
        (with(r#"{"feed": {"file": "none.txt"}}"#, "@feed"), "cannot read none.txt"),
        (with(r#"{"feed": ["192.0.2.1/24"]}"#, "@feed"), "the prefix is 192.0.2.0/24"),
        (with(r#"{"feed": {"path": "feed.txt"}}"#, "@feed"), "a set is a list of prefixes, or"),
        (with(r#"{"feed": {"file": "feed.txt", "more": 1}}"#, "@feed"), "unknown field `more`"),
        (with(r#"{"feed": [], "feed": []}"#, "@feed"), "set \"feed\" is listed twice"),
        (with("{}", "@feed"), "no set \"feed\"; list it under \"sets\", which must stand before \"rules\""),
    ];
    for (text, expected) in table {
        let error = parse(&text).unwrap_err();
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
    let ruleset = parse(text).unwrap();
    let mut written = Vec::new();
    config::write(&ruleset, &mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[test]
fn bad_descriptions_are_named() {
    let service = |service: &str| format!(r#"{{"services": {{"a": {service}}}, "rules": []}}"#);
    let table = [
        (service(r#"{"listen": "tcp:80"}"#), "is not a protocol, an address and a port"),
        (service(r#"{"listen": []}"#), "at least one value"),
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
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
