//! Files that include others, and how it is told which notation a file has.

use inlet_core::config::{Diagnostics, Parsed, Routes};

use crate::{Files, lines, parse, parse_with};

const RULE: &str = r#"{"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#;

fn read(files: Vec<(&'static str, &'static str)>) -> Result<Parsed, Diagnostics> {
    let (name, text) = files[0];
    parse_with(&mut Files(files), name, text)
}

fn errors(files: Vec<(&'static str, &'static str)>) -> String {
    read(files).unwrap_err().to_string()
}

#[test]
fn what_one_file_has_all_can_use() {
    let parsed = read(vec![
        ("/etc/inlet.toml", "include = [\"rules/web.json\", \"sets.toml\"]\nroutes = \"manage\"\nservices.web = {}"),
        (
            "/etc/rules/web.json",
            r#"{"include": "more.toml", "rules": [{"to": "web", "protocol": "tcp", "local": "@vips", "ports": 80}]}"#,
        ),
        ("/etc/rules/more.toml", "rules = [{ to = \"dns\", protocol = \"udp\", local = \"@vips\", ports = 53 }]"),
        ("/etc/sets.toml", "services.dns = { on_missing = \"pass\" }\nsets.vips = { file = \"lists/vips.txt\" }"),
        ("/etc/lists/vips.txt", "192.0.2.0/24"),
    ])
    .unwrap();
    assert_eq!(lines(&parsed.ruleset), ["tcp 192.0.2.0/24 80 -> web", "udp 192.0.2.0/24 53 -> dns"]);
    assert_eq!(parsed.routes, Routes::Manage);
}

#[test]
fn a_directory_stands_for_its_files() {
    let files = |b| {
        vec![
            ("/etc/inlet.toml", "include = [\"rules.d\"]\nrules = []\nservices.web = {}"),
            ("/etc/rules.d/b.toml", b),
            (
                "/etc/rules.d/a.json",
                r#"{"rules": [{"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}]}"#,
            ),
        ]
    };
    let parsed =
        read(files("rules = [{ to = \"web\", protocol = \"udp\", local = \"192.0.2.0/24\", ports = 53 }]")).unwrap();
    assert_eq!(lines(&parsed.ruleset), ["tcp 192.0.2.0/24 80 -> web", "udp 192.0.2.0/24 53 -> web"]);
    // One that is wrong is named by its own path, and one that is included twice likewise.
    let wrong = errors(files("rules = [{ to = \"wbe\", protocol = \"udp\", local = \"192.0.2.0/24\", ports = 53 }]"));
    assert!(wrong.starts_with("/etc/rules.d/b.toml:1:17: "), "{wrong}");
    let twice = errors(files("include = \"a.json\""));
    assert!(twice.contains("a.json is included already"), "{twice}");
}

#[test]
fn circles_and_double_includes_are_named() {
    let own = errors(vec![("a.toml", "include = \"a.toml\"\nrules = []")]);
    assert_eq!(own, "a.toml:1:11: a.toml is being read: the files include each other; leave this one out");
    let circle = errors(vec![
        ("a.toml", "include = \"b.toml\"\nrules = []"),
        ("b.toml", "include = \"c.toml\""),
        ("c.toml", "->a.toml"),
    ]);
    assert_eq!(circle, "b.toml:1:11: c.toml is being read: the files include each other; leave this one out");
    let twice = errors(vec![
        ("a.toml", "include = [\n  \"b.toml\",\n  \"c.toml\",\n]\nrules = []"),
        ("b.toml", "include = \"d.toml\""),
        ("c.toml", "include = \"link.toml\""),
        ("d.toml", ""),
        ("link.toml", "->d.toml"),
    ]);
    assert_eq!(twice, "c.toml:1:11: link.toml is included already; include each file once");
}

#[test]
fn errors_are_told_of_every_file() {
    let told = errors(vec![
        ("a.toml", "include = [\"b.json\", \"none.toml\"]\nrules = []\nservices.web = {}\nrouts = \"manage\""),
        ("b.json", "{\"services\": {\"web\": {}},\n \"routes\": 5,\n \"sets\": {\"x\": {\"file\": \"x.txt\"}}}"),
        ("x.txt", "192.0.2.0/24\n  198.51.100.1/24 # no\n"),
    ]);
    let expected = [
        "a.toml:1:22: cannot read none.toml",
        "a.toml:4:1: unknown key \"routs\"; did you mean \"routes\"?",
        "b.json:1:15: service \"web\" is there twice",
        "b.json:2:12: this is a number, not a string",
        "x.txt:2:3: 198.51.100.1/24 has host bits set; the prefix is 198.51.100.0/24",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

/// A number that is none of a value's is told like a text that is not: with the range and the fix.
#[test]
fn negative_numbers_are_told_as_texts_are() {
    for text in ["services.a = { sticky = -1 }\nrules = []", "services.a = { sticky = \"-1\" }\nrules = []"] {
        let told = errors(vec![("a.toml", text)]);
        assert!(told.contains("sticky \"-1\" is not a number of seconds from 0 to 14400"), "{told}");
    }
    let told = errors(vec![("a.json", r#"{"services": {"a": {"sticky": -1}}, "rules": []}"#)]);
    assert!(told.contains("sticky \"-1\" is not a number of seconds from 0 to 14400"), "{told}");
}

#[test]
fn lists_as_feeds_have_them() {
    const FEED: &str =
        "\u{feff}; a feed\r\n10/8 ; text\r\n10.1.0.0/16\r\n192.0.2.0-192.0.2.255\r\nwhat is this\r\n2001:db8::/32\r\n";
    let rule = r#"{"verdict": "pass", "protocol": "tcp", "local": "198.51.100.0/24", "from": "@feed", "ports": 80}"#;
    for lenient in [true, false] {
        let json = format!(r#"{{"sets": {{"feed": {{"file": "f.txt", "lenient": {lenient}}}}}, "rules": [{rule}]}}"#);
        let toml = format!(
            "sets.feed = {{ file = \"f.txt\", lenient = {lenient} }}\nrules = [{}]",
            rule.replace("\": ", "\" = ")
        );
        for (name, text) in [("a.json", json), ("a.toml", toml)] {
            let read = read(vec![(name, Box::leak(text.into_boxed_str())), ("f.txt", FEED)]);
            match read {
                Ok(parsed) if lenient => {
                    let rules = ["from 10.0.0.0/8", "from 192.0.2.0/24"]
                        .map(|from| format!("tcp 198.51.100.0/24 80 {from} -> pass"));
                    let found = lines(&parsed.ruleset);
                    assert_eq!(found, rules, "{name}");
                    let skipped: Vec<String> = parsed.skipped.iter().map(ToString::to_string).collect();
                    let told = "f.txt: 1 line is no prefix and is left out: \"what\" (line 5)";
                    assert_eq!(skipped, [told], "{name}");
                }
                Err(found) if !lenient => {
                    let told = found.to_string();
                    assert!(told.starts_with("f.txt:5:1: \"what\" is not a prefix"), "{name}: {told}");
                }
                other => panic!("{name}, lenient {lenient}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_source_of_the_other_family_alone_is_an_error() {
    let of = |from: &str| {
        format!(
            "rules = [{{ verdict = \"pass\", protocol = \"tcp\", local = \"198.51.100.0/24\", from = {from}, ports = 80 }}]\nsets.six = [\"2001:db8::/32\"]"
        )
    };
    for from in ["\"@six\"", "\"2001:db8::/32\"", "[\"2001:db8::/32\", \"10.0.0.0/8\"]"] {
        let told = errors(vec![("a.toml", Box::leak(of(from).into_boxed_str()))]);
        assert!(told.starts_with("a.toml:1:"), "{from}: {told}");
    }
}

#[test]
fn rules_that_tie_are_found_across_files() {
    let found = read(vec![
        ("a.toml", "include = \"b.json\"\nrules = [{ verdict = \"refuse\", protocol = \"tcp\", local = \"192.0.2.0/24\", ports = 80 }]"),
        ("b.json", concat!(r#"{"rules": ["#, r#"{"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#, "]}")),
    ])
    .unwrap_err();
    let told = &found.list[0];
    let other = &told.related.as_ref().unwrap().place;
    assert!(told.message.contains("overlap and neither is more specific"), "{told:?}");
    assert_eq!((found.files[told.place.file].name.as_str(), told.place.line, told.place.column), ("b.json", 1, 60));
    assert_eq!((found.files[other.file].name.as_str(), other.line, other.column), ("a.toml", 2, 58));
}

#[test]
fn notations_are_told_apart() {
    let json = format!("{{\"rules\": [{RULE}]}}");
    let toml = "rules = [{ verdict = \"pass\", protocol = \"tcp\", local = \"192.0.2.0/24\", ports = 80 }]";
    for (name, text) in [("a.json", json.as_str()), ("a.toml", toml), ("a", &json), ("a", toml), ("a.conf", toml)] {
        assert_eq!(lines(&parse(name, text).unwrap().ruleset), ["tcp 192.0.2.0/24 80 -> pass"], "{name}: {text}");
    }
    assert!(parse("a.json", toml).is_err() && parse("a.toml", &json).is_err());
    // An empty file is an accident rather than a ruleset.
    for name in ["a.toml", "a"] {
        assert_eq!(
            parse(name, "").unwrap_err(),
            format!("{name}:1:1: no \"rules\"; a ruleset without any says so: rules = []")
        );
    }
    assert!(parse("a.json", "").unwrap_err().starts_with("a.json:1:1: EOF while parsing a value"));
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let text = "services.web = {}\nrules = [\n  { to = \"web\", protocol = \"tcp\", local = \"192.0.2.0/24\", ports = 99999 },\n]\nroutes = manage\nrouts = 1";
    let told = parse("a.toml", text).unwrap_err();
    let places: Vec<&str> = told.lines().map(|line| &line[..10]).collect();
    assert_eq!(places, ["a.toml:3:6", "a.toml:5:1", "a.toml:6:1"], "{told}");
}
