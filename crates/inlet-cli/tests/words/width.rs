//! Tables know the width of the terminal, or what COLUMNS says; a pipe has no limit but where lines would be long.

use inlet_testkit::{TcpServer, output};
use serde_json::json;

use crate::{Host, at};

/// Prefixes of both families, of which some touch.
const PREFIXES: u8 = 157;

fn prefixes() -> Vec<String> {
    let of = |number: u8| match number {
        0..50 => format!("192.0.2.{number}/32"),
        50..120 => format!("203.0.{}.0/24", 2 * number),
        _ => format!("2001:db8:{number}:{}::/64", 100 + u16::from(number)),
    };
    (0..PREFIXES).map(of).collect()
}

/// A host with 157 prefixes, two services for each, one with a socket, and a listener that rules take packets from.
fn busy() -> Option<(Host, Vec<TcpServer>)> {
    let host = Host::up()?;
    let servers = ["0.0.0.0:443", "127.0.0.1:8080"].map(|addr| TcpServer::spawn("web", at(addr)).unwrap());
    let rules = json!([
        {"to": "web", "protocol": "tcp", "local": prefixes(), "ports": [80, 443]},
        {"to": "dns", "protocol": ["tcp", "udp"], "local": prefixes(), "ports": 53},
        {"verdict": "refuse", "protocol": "tcp", "local": "10.0.0.0/8", "ports": "8000-8999",
            "from": ["198.51.100.0/24", "203.0.113.0/24"], "iface": "lo"},
    ]);
    let long = "a-service-with-a-name-that-is-rather-longer-than-any-terminal-is-wide-so-that-it-has-to-be-broken";
    let ran = host.apply(&json!({"services": {"web": {}, "dns": {}, long: {}}, "rules": rules}).to_string());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    host.ok(&["register", "web", "--pid", &std::process::id().to_string(), "--listen", "tcp:127.0.0.1:8080"]);
    Some((host, servers.into()))
}

/// What a command prints when the terminal has this width.
fn wide(host: &Host, columns: usize, args: &[&str]) -> String {
    let ran = output(host.command(args).env("COLUMNS", columns.to_string())).unwrap();
    assert!(ran.status.success(), "{args:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let Some((host, _servers)) = busy() else { return };
    for columns in [60, 80, 120] {
        for args in [&["listeners"][..], &["rules"], &["services"], &["status"], &["explain", "tcp", "192.0.2.7:80"]] {
            let said = wide(&host, columns, args);
            for line in said.lines() {
                assert!(line.chars().count() <= columns, "{args:?} at {columns}: {line}");
            }
        }
    }
}

#[test]
fn listeners_of_a_busy_host_are_readable() {
    let Some((host, _servers)) = busy() else { return };
    let at_80 = wide(&host, 80, &["listeners"]);
    // 157 prefixes, each for two services, had 337 lines.
    assert!(at_80.lines().count() < 120, "{at_80}");
    for text in ["192.0.2.0-192.0.2.49", "80,443", "service web", "tcp,udp  53", "    bind         8080    127.0.0.1"] {
        assert!(at_80.contains(text), "{text}: {at_80}");
    }
    // A pipe has no width, and lines would be long.
    let piped = host.ok(&["listeners"]);
    assert!(piped.lines().all(|line| line.chars().count() <= 120) && piped.lines().count() < 90, "{piped}");
}

/// Every rule is in one row of its terminal's table: with each prefix as often as rules name it.
#[test]
fn rules_share_lines_on_a_terminal_only() {
    let Some((host, _servers)) = busy() else { return };
    let (rules, piped) = (4 * usize::from(PREFIXES) + 2, host.ok(&["rules"]));
    assert_eq!(piped.lines().count(), 1 + rules);
    let at_80 = wide(&host, 80, &["rules"]);
    assert!(at_80.lines().count() < 160, "{}: {at_80}", at_80.lines().count());
    let at_120 = wide(&host, 120, &["rules"]);
    assert!(at_120.lines().count() < 100, "{at_120}");
    for prefix in prefixes() {
        let shown = at_80.split([' ', ',', '\n']).filter(|word| **word == prefix).count();
        // Once for web with both ports, once for dns with both protocols.
        assert_eq!(shown, 2, "{prefix}: {at_80}");
    }
    assert!(at_120.contains("10.0.0.0/8 from 198.51.100.0/24, 203.0.113.0/24 on lo"), "{at_120}");
}

/// Without COLUMNS the terminal is asked.
#[test]
fn a_terminal_has_a_width() {
    let Some((host, _servers)) = busy() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("rules");
    let command = host.command(&["rules"]);
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_inlet"), words.join(" "));
    std::fs::write(
        &script,
        format!("#!/bin/sh\nunset COLUMNS\nexport NO_COLOR=1\nstty rows 24 cols 80 <&1\nexec {line}\n"),
    )
    .unwrap();
    let address = format!("EXEC:sh {},pty,ctty,setsid", script.display());
    let ran = output(std::process::Command::new("socat").args(["-u", &address, "STDOUT"])).unwrap();
    let said = String::from_utf8(ran.stdout).unwrap().replace('\r', "");
    assert_eq!(said, wide(&host, 80, &["rules"]));
}

#[test]
fn rules_with_nothing_to_show_say_so() {
    let Some(host) = Host::up() else { return };
    assert_eq!(host.ok(&["rules"]), "no rules\n");
    assert_eq!(host.json(&["rules"]), json!([]));
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    assert_eq!(host.ok(&["rules", "udp"]), "no rule matches (1 rule in all)\n");
}

#[test]
fn status_paints_what_is_wrong() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let painted = || {
        let ran = output(host.command(&["status"]).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR")).unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let red = |text: &str| format!("\x1b[31m{text}\x1b[0m");
    let said = painted();
    assert!(said.contains("0 missed, 0 refused") && said.contains(&red("no live socket")), "{said}");
    let _ = inlet_testkit::dial_tcp(at("192.0.2.7:80"), &inlet_testkit::Dial::new());
    let said = painted();
    assert!(said.contains(&format!("0 steered, {}, {}, 0 failed", red("1 missed"), red("1 refused"))), "{said}");
}
