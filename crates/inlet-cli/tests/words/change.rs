//! Commands that begin, end and change an instance.

use inlet_testkit::{Answer, Dial, Netns, TcpServer, dial_tcp};

use crate::{Host, PATIENCE, at};

#[test]
fn an_instance_begins_and_ends() {
    let Some(host) = Host::new() else { return };
    for command in [["status"].as_slice(), &["export"], &["down"], &["unbind", "tcp", "192.0.2.0/24", "80"]] {
        host.fails(command, "inlet is not up in this network namespace\nfix: inlet up");
    }
    assert!(host.ok(&["up", "--max-sockets", "8"]).starts_with("inlet is up in this network namespace"));
    let said = host.ok(&["up"]);
    assert!(said.starts_with("inlet is already up in this network namespace; its state is in "), "{said}");
    let other = host.run(&["up", "--max-sockets", "77"]);
    assert_eq!(other.code, Some(0));
    let note = "note: inlet was up before with other options, and keeps them: it has room for 8 sockets\nfix: ";
    assert!(other.stderr.starts_with(note), "{}", other.stderr);
    host.fails(&["up", "--group", "no-such-group"], "unknown group \"no-such-group\"");
    assert_eq!(host.json(&["status"])["max_sockets"], 8);
    assert_eq!(host.ok(&["down"]), "inlet is down in this network namespace\n");
    host.fails(&["down"], "inlet is not up");
    assert_eq!(host.json(&["up"])["generation"], 1);
    assert!(host.json(&["down"])["instance"]["directory"].is_string());
}

#[test]
fn bind_adds_replaces_and_says_what_was() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let said = host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80,443"]);
    let lines = [
        "+ service web (on missing: refuse)",
        "+ tcp 192.0.2.0/24 80 -> web",
        "+ tcp 192.0.2.0/24 443 -> web",
        "warning: service web has no live socket for tcp 192.0.2.0/24:80: they are refused",
        "fix: give it sockets with: inlet register, or describe them: inlet service set",
        "generation 2",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    let said = host.ok(&["bind", "--pass", "tcp", "192.0.2.0/24", "80"]);
    assert_eq!(said, "~ tcp 192.0.2.0/24 80 -> pass (was web)\ngeneration 3\n");
    let again = ["bind", "--pass", "tcp", "192.0.2.0/24", "80"];
    assert_eq!(host.ok(&again), "no change\ngeneration 3\n");
    let said = host.json(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80"]);
    assert_eq!(
        (&said["generation"], &said["added"], &said["removed"]),
        (&4.into(), &serde_json::json!([]), &serde_json::json!([]))
    );
    let replaced = &said["replaced"][0];
    assert_eq!((&replaced["verdict"], &replaced["ports"]), (&"refuse".into(), &"80".into()));
    assert_eq!(replaced["was"], serde_json::json!({"verdict": "pass", "service": null}));
    let said = host.ok(&["unbind", "tcp", "192.0.2.0/24", "80,443"]);
    assert_eq!(said, "- tcp 192.0.2.0/24 80 -> refuse\n- tcp 192.0.2.0/24 443 -> web\ngeneration 5\n");
}

#[test]
fn refused_changes_change_nothing() {
    let Some(host) = Host::up() else { return };
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80-89"]);
    let before = host.ok(&["export"]);
    host.fails(
        &["bind", "proxy", "tcp", "192.0.2.0/24", "85-94"],
        "rules `tcp 192.0.2.0/24 80-89 -> web` and `tcp 192.0.2.0/24 85-94 -> proxy` overlap",
    );
    host.fails(
        &["unbind", "tcp", "192.0.2.0/24", "80"],
        "no rule tcp 192.0.2.0/24 80\nfix: list the rules with: inlet rules",
    );
    host.fails(
        &["unbind", "tcp", "192.0.2.0/24", "80-89", "--from", "10.0.0.0/8"],
        "from 10.0.0.0/8\nfix: list the rules with: inlet rules",
    );
    host.fails(&["bind", "web", "tcp", "192.0.2.0/24", "1", "--iface", "no-such"], "no interface \"no-such\" in");
    host.fails(&["bind", "web", "tcp", "192.0.2.0/24", "1", "--from", "2001:db8::/32"], "can match nothing");
    host.fails(&["service", "rm", "web"], "service web has 1 rule\nfix: unbind them first");
    host.fails(&["service", "rm", "no-such"], "no service \"no-such\"");
    host.fails(&["unregister", "no-such"], "no service \"no-such\"");
    assert_eq!(host.ok(&["export"]), before);
    assert_eq!(host.json(&["status"])["generation"], 2);
}

#[test]
fn services_are_made_changed_and_removed() {
    let Some(host) = Host::up() else { return };
    assert_eq!(host.ok(&["service", "set", "web"]), "+ service web (on missing: refuse)\ngeneration 2\n");
    let said = host.ok(&["service", "set", "web", "--on-missing", "pass"]);
    assert_eq!(said, "~ service web (on missing: pass, was refuse)\ngeneration 3\n");
    assert_eq!(host.ok(&["service", "set", "web"]), "no change\ngeneration 3\n");
    let said = host.json(&["service", "set", "dns", "--on-missing", "pass"]);
    let change = serde_json::json!({"change": "added", "name": "dns", "on_missing": "pass", "was": null});
    assert_eq!(said["services"], serde_json::json!([change]));
    assert_eq!(host.ok(&["service", "rm", "web"]), "- service web\ngeneration 5\n");
}

const CONFIG: &str = r#"{"services": {"web": {"on_missing": "pass"}, "proxy": {}, "two words": {}},
 "rules": [
  {"to": "web", "protocol": "tcp", "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": ["80", "8000-8999"]},
  {"to": "proxy", "protocol": ["tcp", "udp"], "local": "198.51.100.0/24", "ports": "any", "from": ["203.0.113.0/24"]},
  {"to": "two words", "protocol": "udp", "local": "203.0.113.0/24", "ports": 53},
  {"verdict": "pass", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 22}]}"#;

#[test]
fn an_export_applies_without_change() {
    let Some(host) = Host::up() else { return };
    host.ok(&["bind", "old", "tcp", "192.0.2.0/24", "80"]);
    let ran = host.apply(CONFIG);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for line in ["- service old", "~ tcp 192.0.2.0/24 80 -> web (was old)", "+ udp 203.0.113.0/24 53 -> two words"] {
        assert!(ran.stdout.lines().any(|said| said == line), "{line}: {}", ran.stdout);
    }
    assert!(ran.stdout.ends_with("generation 3\n"), "{}", ran.stdout);
    let export = host.ok(&["export"]);
    assert_eq!(host.apply(&export).stdout, "no change\ngeneration 3\n");
    assert_eq!(host.apply(CONFIG).stdout, "no change\ngeneration 3\n");
    let toml = host.ok(&["export", "--toml"]);
    assert!(toml.contains("services.\"two words\" = { on_missing = \"refuse\" }\n"), "{toml}");
    assert_eq!(host.apply(&toml).stdout, "no change\ngeneration 3\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &export).unwrap();
    assert_eq!(host.ok(&["apply", file.path().to_str().unwrap()]), "no change\ngeneration 3\n");
    assert_eq!(host.ok(&["export"]), export);
}

#[test]
fn a_bad_file_changes_nothing() {
    let Some(host) = Host::up() else { return };
    assert_eq!(host.apply(CONFIG).code, Some(0));
    let before = host.ok(&["export"]);
    let rules = |rules: &str| format!(r#"{{"services": {{"web": {{}}}}, "rules": [{rules}]}}"#);
    let table = [
        ("".to_owned(), "no \"rules\""),
        ("{".to_owned(), "EOF while parsing"),
        (rules("") + "x", "trailing characters"),
        (r#"{"rules": [], "rulez": 1}"#.to_owned(), "unknown key \"rulez\""),
        (rules(r#"{"to": "dns", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#), "no service \"dns\""),
        (
            rules(r#"{"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": ["80-81", "81-82"]}"#),
            "`tcp 192.0.2.0/24 80-81 -> web` and `tcp 192.0.2.0/24 81-82 -> web` overlap",
        ),
        (
            rules(r#"{"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80, "iface": "no-such"}"#),
            "no interface \"no-such\"",
        ),
    ];
    for (text, expected) in table {
        let ran = host.apply(&text);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{text}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: {expected}")), "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains("--> standard input:1:"), "{text}: {}", ran.stderr);
        assert!(ran.stderr.ends_with("\n\nerror: standard input: 1 error\n"), "{text}: {}", ran.stderr);
    }
    assert_eq!(host.ok(&["export"]), before);
}

const TOLD: &str = r#"error: no service "wbe"
 --> DIR/web.json:1:19
  |
1 | {"rules": [{"to": "wbe", "protocol": "tcp", "local": "@feed", "ports": 80}]}
  |                   ^^^^^
  |
  = fix: did you mean "web"?

error: 192.0.2.1/24 has host bits set
 --> DIR/feed.txt:2:1
  |
2 | 192.0.2.1/24 # ␛[2J
  | ^^^^^^^^^^^^
  |
  = fix: the prefix is 192.0.2.0/24

error: DIR/inlet.toml: 2 errors
"#;

#[test]
fn all_errors_are_told_with_their_places() {
    let Some(host) = Host::up() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("inlet.toml", "include = \"web.json\"\nservices.web = {}\nsets.feed = { file = \"feed.txt\" }\n");
    write("web.json", r#"{"rules": [{"to": "wbe", "protocol": "tcp", "local": "@feed", "ports": 80}]}"#);
    write("feed.txt", "192.0.2.0/24\n192.0.2.1/24 # \u{1b}[2J\n");
    let ran = host.run(&["apply", &path("inlet.toml")]);
    let told = TOLD.replace("DIR", directory.path().to_str().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(1), "", told.as_str()));
    write("feed.txt", "192.0.2.0/24");
    write("web.json", r#"{"rules": [{"to": "web", "protocol": "tcp", "local": "@feed", "ports": 80}]}"#);
    let said = host.ok(&["apply", &path("inlet.toml")]);
    assert!(said.contains("+ tcp 192.0.2.0/24 80 -> web\n"), "{said}");
}

#[test]
fn a_long_change_is_cut_for_people_only() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let ports: Vec<String> = (1..=60).map(|port| (port * 10).to_string()).collect();
    let said = host.ok(&["bind", "web", "tcp", "192.0.2.0/24", &ports.join(",")]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[51]), (55, "... and 10 more; 60 rules changed in all"));
    let said = host.json(&["unbind", "tcp", "192.0.2.0/24", &ports.join(",")]);
    assert_eq!(said["removed"].as_array().unwrap().len(), 60);
    assert_eq!(said["removed"][0]["service"], "web");
}

#[test]
fn two_namespaces_have_two_instances() {
    let Some(host) = Host::up() else { return };
    let other = Netns::unentered().unwrap();
    let path = other.path().to_str().unwrap();
    host.fails(&["status", "--netns", path], &format!("inlet is not up in network namespace {path}"));
    host.ok(&["--netns", path, "up"]);
    host.ok(&["--netns", path, "bind", "web", "tcp", "192.0.2.0/24", "80", "--iface", "lo"]);
    assert_eq!(host.json(&["rules"]), serde_json::json!([]));
    assert_eq!(host.json(&["rules", "--netns", path])[0]["iface"], "lo");
    let cookie = |args: &[&str]| host.json(args)["instance"]["cookie"].as_u64().unwrap();
    assert_ne!(cookie(&["status"]), cookie(&["status", "--netns", path]));
    other.local("192.0.2.0/24").unwrap();
    let server = other.enter(|| TcpServer::spawn("there", at("127.0.0.1:8080"))).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["--netns", path, "register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    let answer = other.enter(|| dial_tcp(at("192.0.2.9:80"), &Dial::new()));
    assert_eq!((answer.name(), answer.local()), (Some("there"), Some(at("192.0.2.9:80"))));
    host.ok(&["down"]);
    assert_eq!(host.json(&["status", "--netns", path])["services"][0]["counters"]["steered"], 1);
    drop(server);
    host.ok(&["down", "--netns", path]);
    assert_eq!(other.enter(|| dial_tcp(at("192.0.2.9:80"), &Dial::new())), Answer::Refused);
}

#[test]
fn a_closed_pipe_is_success() {
    let Some(host) = Host::up() else { return };
    for args in [["bind", "web", "tcp", "192.0.2.0/24", "80"].as_slice(), &["rules"], &["status"], &["rules", "--json"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = host.command(args);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let mut program = inlet_testkit::Program::start(&mut command).unwrap();
        drop(command);
        let stderr = std::io::read_to_string(program.child().stderr.take().unwrap()).unwrap();
        let status = program.wait_exit(PATIENCE).unwrap().unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    // What was done before the pipe broke stays done.
    assert_eq!(host.json(&["rules"])[0]["service"], "web");
}
