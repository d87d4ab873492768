//! What is said before a change is what happens after it: `plan`, `explain --file`, `check FILE`, dry runs and `apply`
//! know the same. Who receives is asked of the servers.

use inlet_testkit::{Cgroup, Dial, Listen, TcpServer, dial_tcp};
use serde_json::{Value, json};

use crate::asked::{asked, codes, findings, ok, one, sshd};
use crate::{Host, PATIENCE, at};

/// A file in which the service finds its socket by a description, with more keys of it.
fn described(port: u16, more: &str) -> String {
    let rule = r#"{"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#;
    format!(r#"{{"services": {{"web": {{"listen": ["tcp:127.0.0.1:{port}"]{more}}}}}, "rules": [{rule}]}}"#)
}

fn kinds(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect()
}

/// What is said of a file: the outcome that `explain` tells, the warnings of `plan`, the findings of `check`.
fn said_of(host: &Host, path: &str) -> (String, Vec<String>, Vec<String>) {
    let explained = host.json(&["explain", "tcp", "192.0.2.9:80", "--file", path]);
    let ran = host.run(&["plan", path, "--json"]);
    let planned: Value = serde_json::from_str(&ran.stdout).unwrap();
    let (_, found) = findings(host, &[path]);
    let owned = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut codes = owned(codes(&found));
    codes.sort();
    (explained["outcome"].as_str().unwrap().to_owned(), owned(kinds(&planned)), codes)
}

#[test]
fn the_descriptions_of_a_file_count_in_all_commands() {
    let Some(host) = Host::new() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let _server = TcpServer::spawn("web", at("127.0.0.1:18101")).unwrap();
    let group = Cgroup::new().unwrap();
    let path = group.path().file_name().unwrap().to_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let file_path = file.to_str().unwrap();
    let finds = |outcome: &str, warnings: &[&str], codes: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        (outcome.to_owned(), owned(warnings), owned(codes))
    };
    let missing = || finds("refuse", &["no_socket"], &["service-without-sockets"]);
    // Without a user, unit or control group anybody may open what is described.
    let anyones = |outcome: &str, warnings: &[&str], codes: &[&str]| {
        let (outcome, mut warnings, mut codes) = finds(outcome, warnings, codes);
        warnings.push("open_to_anyone".to_owned());
        codes.push("open-to-anyone".to_owned());
        codes.sort();
        (outcome, warnings, codes)
    };
    let cases = [
        (described(18101, ""), anyones("socket", &[], &[]), "web"),
        // Another user, another control group, another port: the listener is none of the service's.
        (described(18101, r#", "user": "65534""#), missing(), "Refused"),
        (described(18101, &format!(r#", "cgroup": "/{path}""#)), missing(), "Refused"),
        (described(18102, ""), anyones("refuse", &["no_socket"], &["service-without-sockets"]), "Refused"),
        (described(18101, r#", "user": "0""#), finds("socket", &[], &[]), "web"),
    ];
    for is_up in [false, true] {
        for (text, expected, receives) in &cases {
            std::fs::write(&file, text).unwrap();
            assert_eq!(said_of(&host, file_path), *expected, "{is_up}: {text}");
            if is_up {
                host.ok(&["apply", file_path]);
                assert_eq!(asked("192.0.2.9:80"), *receives, "{text}");
                let outcome = host.json(&["explain", "tcp", "192.0.2.9:80"])["outcome"].clone();
                assert_eq!(outcome, expected.0, "{text}");
            }
        }
        if !is_up {
            host.ok(&["up"]);
        }
    }
}

const ALL: &str = r#"{"services": {"proxy": {}}, "rules": [
    {"to": "proxy", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"},
    {"to": "proxy", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 80}]}"#;

#[test]
fn a_plan_tells_that_apply_refuses_and_what_is_not_local() {
    let Some(host) = Host::new() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _sshd = sshd(dir.path());
    for is_up in [false, true] {
        let ran = host.feed(&["plan", "-"], ALL);
        assert_eq!((ran.code, ran.stderr.is_empty()), (Some(3), is_up), "{}", ran.stderr);
        let refused = "warning: this is refused: rule `tcp 192.0.2.0/24 any -> proxy` would take 192.0.2.0:22 from ";
        assert!(ran.stdout.contains(refused), "{}", ran.stdout);
        assert!(ran.stdout.contains("warning: 198.51.100.0/24 is not local to this host"), "{}", ran.stdout);
        let said: Value = serde_json::from_str(&host.feed(&["plan", "-", "--json"], ALL).stdout).unwrap();
        assert_eq!(kinds(&said), ["refused", "not_local", "no_socket", "loses"]);
        assert_eq!(said["warnings"][1]["prefixes"], json!(["198.51.100.0/24"]));
        if !is_up {
            host.ok(&["up"]);
        }
    }
    let ran = host.apply(ALL);
    assert!(ran.code == Some(1) && ran.stderr.contains("would take 192.0.2.0:22 from "), "{}", ran.stderr);
    assert!(host.json(&["rules"]).as_array().unwrap().is_empty());
}

#[test]
fn apply_and_bind_give_the_warnings_of_a_plan() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let _wildcard = TcpServer::spawn("wildcard", at("0.0.0.0:18103")).unwrap();
    let mut planned: Value = serde_json::from_str(&host.feed(&["plan", "-", "--json"], ALL).stdout).unwrap();
    let mut applied: Value = serde_json::from_str(&ok(host.feed(&["apply", "-", "--json"], ALL))).unwrap();
    // Children of neighbouring tests hold copies of the socket until they run their programs.
    for said in [&mut planned, &mut applied] {
        let owners = said["warnings"][2]["socket"]["owners"].take();
        assert!(owners.as_array().unwrap().iter().any(|it| it["pid"] == std::process::id()), "{owners}");
    }
    assert_eq!(
        (kinds(&planned), &planned["warnings"]),
        (vec!["not_local", "no_socket", "loses"], &applied["warnings"])
    );
    let said = host.ok(&["bind", "prxy", "udp", "192.0.2.0/24", "53"]);
    let expected = "\
+ service prxy (on missing: refuse)
+ udp 192.0.2.0/24 53 -> prxy
warning: service prxy has no live socket for udp 192.0.2.0/24:53: they are refused
fix: did you mean proxy? If not, give it sockets with: inlet register, or describe them: inlet service set
generation 3
";
    assert_eq!(said, expected);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let dir = tempfile::tempdir().unwrap();
    let _sshd = sshd(dir.path());
    let before = (host.ok(&["export"]), host.json(&["status"])["generation"].clone());
    let dry = |args: &[&str], expected: &str| {
        let ran = host.run(&[args, &["--dry-run"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(3), ""), "{args:?}");
        assert!(ran.stdout.contains(expected), "{args:?}: {}", ran.stdout);
        assert_eq!((host.ok(&["export"]), host.json(&["status"])["generation"].clone()), before, "{args:?}");
    };
    dry(&["bind", "proxy", "tcp", "192.0.2.7", "80"], "    tcp 192.0.2.7:80: web -> proxy\n");
    dry(&["bind", "proxy", "tcp", "192.0.2.0/24", "any"], "warning: this is refused: ");
    dry(
        &["bind", "--to", "tcp:127.0.0.1:18104", "tcp", "192.0.2.8", "80"],
        "+ tcp 192.0.2.8/32 80 -> tcp:127.0.0.1:18104",
    );
    dry(&["unbind", "tcp", "192.0.2.0/24", "80"], "    tcp 192.0.2.0/24:80: web -> no rule\n");
    dry(&["service", "set", "web", "--on-missing", "pass"], "~ service web (on missing: pass, was refuse)\n");
    let ran = host.run(&["service", "set", "web", "--dry-run"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "no change\n"));
    // What cannot be done cannot be done dry.
    host.fails(&["unbind", "tcp", "192.0.2.9", "80", "--dry-run"], "no rule tcp 192.0.2.9/32 80");
    let to = ["bind", "--to", "udp:127.0.0.1:53", "tcp", "192.0.2.0/24", "53"];
    host.fails(
        &to,
        "sockets at udp:127.0.0.1:53 receive no tcp packets\nfix: write --to tcp:127.0.0.1:53, or udp in place of tcp",
    );
    host.fails(&[to.as_slice(), &["--dry-run"]].concat(), "receive no tcp packets");
}

#[test]
fn a_rule_before_its_address_says_what_ssh_will_lose() {
    let Some(host) = Host::up() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(dir.path());
    let reaches = || dial_tcp(at("198.51.100.7:22"), &Dial::new().timeout(PATIENCE)) != inlet_testkit::Answer::Refused;
    let any = ["bind", "proxy", "tcp", "198.51.100.0/24", "any"];
    let warning = format!(
        "warning: tcp:0.0.0.0:22, pid {} (sshd), loses tcp 198.51.100.0/24:22 as soon as these addresses are local\n\
         fix: inlet bind --pass tcp 198.51.100.0/24 22 (in a file: except = [22])\n",
        sshd.id()
    );
    let ran = host.run(&[any.as_slice(), &["--dry-run"]].concat());
    assert!(ran.stdout.contains(&warning), "{}", ran.stdout);
    let said = host.ok(&any);
    assert!(said.contains(&warning), "{said}");
    host.world.ip(&["addr", "add", "198.51.100.7/32", "dev", "lo"]).unwrap();
    assert!(!reaches(), "as it was said");
    host.ok(&["bind", "--pass", "tcp", "198.51.100.0/24", "22"]);
    assert!(reaches());
    host.ok(&["unbind", "tcp", "198.51.100.0/24", "any"]);
    let said = host.ok(&any);
    assert!(!said.contains("loses"), "{said}");
}

#[test]
fn what_a_listener_loses_is_named_exactly() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let group = Listen::new().reuseport();
    let _wildcard = TcpServer::spawn_with("wildcard", at("0.0.0.0:18105"), group).unwrap();
    let _exact = TcpServer::spawn_with("exact", at("192.0.2.10:18105"), group).unwrap();
    host.ok(&["bind", "--pass", "tcp", "192.0.2.0/24", "18105"]);
    let said = host.ok(&["bind", "proxy", "tcp", "192.0.2.0/24", "any"]);
    assert!(!said.contains("loses"), "{said}");
    let loses = |found: &[Value]| -> Vec<String> {
        let found = found
            .iter()
            .filter(|it| ["listener-receives-less", "listener-shadowed"].contains(&it["code"].as_str().unwrap()));
        found.map(|it| it["what"].as_str().unwrap().to_owned()).collect()
    };
    let (_, found) = findings(&host, &[]);
    assert_eq!(loses(&found), [""; 0], "what passes is not lost");
    // The wildcard listener loses what neither the exact one had nor a rule passes.
    let said = host.ok(&["bind", "proxy", "tcp", "192.0.2.8/29", "any"]);
    let pid = std::process::id();
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    let who = |at: &str| format!("tcp:{at}:18105, pid {pid} ({}),", command.trim());
    let wildcard = "loses tcp 192.0.2.8/31:18105, tcp 192.0.2.11-192.0.2.15:18105";
    assert!(said.contains(wildcard), "{said}");
    assert!(said.contains(&format!("warning: {} loses tcp 192.0.2.10:18105\n", who("192.0.2.10"))), "{said}");
    let (_, found) = findings(&host, &[]);
    let mut lost = loses(&found);
    lost.sort();
    assert!(lost[0].ends_with("loses 192.0.2.8/31, 192.0.2.11-192.0.2.15"), "{lost:?}");
    assert!(lost[1].ends_with("receives nothing from outside any more, and loses 192.0.2.10"), "{lost:?}");
    for (target, name) in [("192.0.2.7", "wildcard"), ("192.0.2.16", "wildcard")] {
        assert_eq!(asked(&format!("{target}:18105")), name);
    }
    for target in ["192.0.2.8", "192.0.2.10", "192.0.2.15"] {
        assert_eq!(asked(&format!("{target}:18105")), "Refused");
    }
    let _ = one(&found, "listener-shadowed");
}

#[test]
fn a_refuse_that_a_narrower_rule_opens_again_is_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let _server = TcpServer::spawn("open", at("0.0.0.0:18106")).unwrap();
    host.ok(&["bind", "--pass", "tcp", "192.0.2.0/24", "18106"]);
    // Who asks an address of this host from here has that address.
    let block = ["bind", "--refuse", "tcp", "192.0.2.0/24", "any", "--from", "192.0.2.0/24"];
    let said = host.ok(&block);
    let fix = "inlet bind --refuse tcp 192.0.2.0/24 18106 --from 192.0.2.0/24";
    let warning = "warning: `tcp 192.0.2.0/24 18106 -> pass` lets in what `tcp 192.0.2.0/24 any from 192.0.2.0/24 -> refuse` would refuse\n";
    assert!(said.contains(&format!("{warning}fix: {fix} (or drop the source in the firewall)\n")), "{said}");
    assert_eq!(asked("192.0.2.9:18106"), "open");
    let explained = host.ok(&["explain", "tcp", "192.0.2.9:18106", "--from", "192.0.2.9:4000"]);
    assert!(explained.contains(&format!("to keep it out here too: {fix}")), "{explained}");
    let (code, found) = findings(&host, &[]);
    let finding = one(&found, "refuse-opened-again");
    assert_eq!((code, &finding["severity"]), (Some(0), &json!("note")));
    crate::asked::apply_fix(&host, finding);
    assert_eq!(asked("192.0.2.9:18106"), "Refused");
    assert!(!codes(&findings(&host, &[]).1).contains(&"refuse-opened-again"));
    let explained = host.ok(&["explain", "tcp", "192.0.2.9:18106", "--from", "192.0.2.9:4000"]);
    assert!(!explained.contains("to keep it out"), "{explained}");
}
