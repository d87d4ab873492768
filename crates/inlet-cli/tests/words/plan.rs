//! Whole rulesets: planned, and refused where they would lock somebody out.

use inlet_testkit::{Cgroup, TcpServer};
use serde_json::{Value, json};

use crate::asked::{asked, ok, sshd};
use crate::{Host, Ran, at};

pub(crate) const WEB: &str = r#"{"services": {"web": {}, "proxy": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"},
    {"to": "web", "protocol": "tcp", "local": "2001:db8::/64", "ports": [80, 443], "from": "2001:db8:1::/48"},
    {"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 22}]}"#;

/// Some rules come, go and change.
pub(crate) const PROXY: &str = r#"{"services": {"web": {"on_missing": "pass"}, "proxy": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"},
    {"to": "proxy", "protocol": "tcp", "local": "192.0.2.7", "ports": 443},
    {"to": "proxy", "protocol": "tcp", "local": "2001:db8::/64", "ports": 443, "from": "2001:db8:1::/48"},
    {"to": "web", "protocol": "tcp", "local": "192.0.2.0/25", "ports": "any"},
    {"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 22, "iface": "lo"}]}"#;

/// WEB in force, and a listener for each service.
pub(crate) fn host() -> Option<(Host, [TcpServer; 2])> {
    let host = Host::up()?;
    host.world.local("192.0.2.0/24").unwrap();
    ok(host.apply(WEB));
    let servers = [("web", "127.0.0.1:8080"), ("proxy", "127.0.0.1:8081")].map(|(name, addr)| {
        let server = TcpServer::spawn(name, at(addr)).unwrap();
        let pid = std::process::id().to_string();
        host.ok(&["register", name, "--pid", &pid, "--listen", &format!("tcp:{addr}")]);
        server
    });
    Some((host, servers))
}

#[test]
fn a_plan_tells_and_changes_nothing() {
    let Some((host, _servers)) = host() else { return };
    let before = (host.ok(&["export"]), host.json(&["status"])["generation"].clone());
    let ran = host.feed(&["plan", "-"], PROXY);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(3), ""));
    let expected = "\
~ service web (on missing: pass, was refuse)
- tcp 2001:db8::/64 80 from 2001:db8:1::/48 -> web
    tcp [2001:db8::/64]:80 from 2001:db8:1::/48: web -> no rule
~ tcp 2001:db8::/64 443 from 2001:db8:1::/48 -> proxy (was web)
    tcp [2001:db8::/64]:443 from 2001:db8:1::/48: web -> proxy
+ tcp 192.0.2.7/32 443 -> proxy
    tcp 192.0.2.7:443: web -> proxy
+ tcp 192.0.2.0/25 any -> web
    tcp 192.0.2.0/25:22: pass -> web
+ tcp 192.0.2.0/24 22 iface lo -> pass
    no packet gets another answer by this
- tcp 192.0.2.0/24 22 -> pass
    tcp 192.0.2.128/25:22 not iface lo: pass -> web
";
    let warning = "warning: 2001:db8::/64 is not local to this host: its packets are not delivered here\n\
        fix: ip route add local 2001:db8::/64 dev lo (or let inlet do it: inlet apply --routes)\n\
        warning: service proxy has no live socket for tcp [2001:db8::/64]:443 from 2001:db8:1::/48: they are \
        refused\n\
        fix: give it sockets with: inlet register, or describe them: inlet service set\n";
    assert_eq!(ran.stdout, format!("{expected}{warning}"));
    assert_eq!(ok(host.feed(&["plan", "-"], WEB)), "no change\n");
    assert_eq!(ok(host.feed(&["plan", "-"], &before.0)), "no change\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PROXY).unwrap();
    assert_eq!(host.run(&["plan", file.path().to_str().unwrap()]).stdout, format!("{expected}{warning}"));
    assert_eq!(host.feed(&["plan", "-"], "{").code, Some(1));
    assert_eq!(host.run(&["plan"]).code, Some(2));
    assert_eq!((host.ok(&["export"]), host.json(&["status"])["generation"].clone()), before);
    // What was told is what is done.
    let said = ok(host.apply(PROXY));
    assert_eq!(said, format!("{expected}{warning}generation 3\n"));
    assert_eq!((asked("192.0.2.7:443").as_str(), asked("192.0.2.7:444").as_str()), ("proxy", "web"));
}

/// Who plans, applies, checks or asks a file is told what a lenient list is read without.
#[test]
fn lines_that_a_list_is_read_without_are_told() {
    let Some((host, _servers)) = host() else { return };
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("feed"), "192.0.2.0/28\nwhat is this\n").unwrap();
    let file = dir.path().join("f.toml");
    let rule = "{ to = \"web\", protocol = \"tcp\", local = \"@feed\", ports = 8000 }";
    let text = format!("services.web = {{}}\nsets.feed = {{ file = \"feed\", lenient = true }}\nrules = [{rule}]\n");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let told = "feed: 1 line is no prefix and is left out: \"what\" (line 2)";
    for args in [&["plan", file][..], &["check", file], &["apply", file], &["apply", file]] {
        let ran = host.run(args);
        assert!(ran.stdout.contains(told), "{args:?}: {ran:?}");
    }
    assert!(host.run(&["check", "--in-force", file]).stdout.contains(told));
    assert!(host.run(&["explain", "tcp", "192.0.2.1:8000", "--file", file]).stderr.contains(told));
    let plan = host.json(&["plan", file]);
    assert_eq!(plan["warnings"][0]["kind"], "skipped", "{plan}");
}

#[test]
fn a_plan_for_programs() {
    let Some((host, _servers)) = host() else { return };
    let ran = host.feed(&["plan", "-", "--json"], PROXY);
    assert_eq!(ran.code, Some(3));
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(said["added"].as_array().unwrap().len(), 3);
    assert_eq!((said["replaced"].as_array().unwrap().len(), said["removed"].as_array().unwrap().len()), (1, 2));
    let traffic = said["traffic"].as_array().unwrap();
    let entry = traffic.iter().find(|entry| entry["local"] == "192.0.2.7" && entry["ports"] == "443").unwrap();
    let rule = |local: &str, ports: &str, service: &str| {
        json!({"protocol": "tcp", "local": local, "ports": ports, "from": null, "iface": null, "mark": null,
            "verdict": "service", "service": service})
    };
    let expected = json!({"protocol": "tcp", "local": "192.0.2.7", "ports": "443", "from": null, "iface": null,
        "not_iface": [], "mark": null, "not_mark": [],
        "was": {"verdict": "service", "service": "web", "rule": rule("192.0.2.0/24", "any", "web")},
        "now": {"verdict": "service", "service": "proxy", "rule": rule("192.0.2.7/32", "443", "proxy")}});
    assert_eq!(entry, &expected);
    let entry = traffic.iter().find(|entry| entry["local"] == "192.0.2.128/25").unwrap();
    assert_eq!((&entry["not_iface"], &entry["iface"]), (&json!(["lo"]), &Value::Null));
    assert!(traffic.iter().any(|entry| entry["now"].is_null()));
    let warning = &said["warnings"][1];
    assert_eq!((&warning["kind"], &warning["service"]), (&json!("no_socket"), &json!("proxy")));
    assert_eq!(warning["traffic"]["local"], "2001:db8::/64");
    let ran = host.feed(&["plan", "-", "--json"], WEB);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &said["traffic"], &said["added"]), (Some(0), &json!([]), &json!([])));
}

#[test]
fn a_long_plan_is_cut_unless_all_is_asked_for() {
    let Some(host) = Host::up() else { return };
    host.world.local("10.0.0.0/8").unwrap();
    let rules = |count: u32| -> String {
        let rule = |n: u32| {
            format!(r#"{{"verdict": "pass", "protocol": "udp", "local": "10.0.{}.{}", "ports": 53}}"#, n >> 8, n & 255)
        };
        (0..count).map(rule).collect::<Vec<_>>().join(",")
    };
    ok(host.apply(&format!(r#"{{"rules": [{}]}}"#, rules(20))));
    // One change cut into many pieces by what stays.
    let wide = format!(
        r#"{{"rules": [{{"verdict": "refuse", "protocol": "udp", "local": "10.0.0.0/8", "ports": 53}},{}]}}"#,
        rules(20)
    );
    let lines = |ran: Ran| ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    let said = lines(host.feed(&["plan", "-"], &wide));
    assert_eq!(said, ["+ udp 10.0.0.0/8 53 -> refuse", "    udp 10.0.0.20-10.255.255.255:53: no rule -> refuse"]);
    let every_second: String = (0..20)
        .map(|n| format!(r#",{{"to": "dns", "protocol": "udp", "local": "10.0.0.{}", "ports": 53}}"#, 100 + 2 * n))
        .collect();
    let wide = format!(
        r#"{{"services": {{"dns": {{}}}}, "rules": [{{"verdict": "refuse", "protocol": "udp", "local": "10.0.0.0/8", "ports": 53}}{every_second}]}}"#
    );
    let said = lines(host.feed(&["plan", "-"], &wide));
    assert!(
        said.contains(&"    ... and 12 more kinds of packets (all of them: --all)".to_owned())
            || said.iter().any(|line| line.contains("more kinds of packets")),
        "{said:?}"
    );
    let all = lines(host.feed(&["plan", "-", "--all"], &wide));
    assert!(all.len() > said.len() && !all.iter().any(|line| line.starts_with("    ...")));
    let said = lines(host.feed(&["plan", "-"], &format!(r#"{{"rules": [{}]}}"#, rules(200))));
    assert_eq!(said.last().unwrap(), "... and 130 more; 180 rules changed in all");
    let all = lines(host.feed(&["plan", "-", "--all"], &format!(r#"{{"rules": [{}]}}"#, rules(200))));
    assert_eq!(all.iter().filter(|line| line.starts_with('+')).count(), 180);
    assert_eq!(all.iter().filter(|line| line.ends_with("no rule -> pass")).count(), 180);
}

#[test]
fn ssh_is_not_locked_out() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(dir.path());
    // Nothing of what it receives moves: other ports, other protocols, addresses that are not local.
    host.ok(&["bind", "proxy", "tcp", "192.0.2.0/24", "80"]);
    host.ok(&["bind", "proxy", "udp", "192.0.2.0/24", "any"]);
    host.ok(&["bind", "proxy", "tcp", "198.51.100.0/24", "any"]);
    host.ok(&["bind", "proxy", "tcp", "::/0", "any"]);
    let listener = format!("tcp:0.0.0.0:22 (pid {}, sshd), which serves SSH", sshd.id());
    let any = ["bind", "proxy", "tcp", "192.0.2.0/24", "any"];
    host.fails(&any, &format!("rule `tcp 192.0.2.0/24 any -> proxy` would take 192.0.2.0:22 from {listener}\nfix: inlet bind --pass tcp 192.0.2.0/24 22 (in a file: except = [22]); or do it even so with --force"));
    host.fails(&["bind", "--refuse", "tcp", "192.0.2.9", "22"], "leave that rule out; or do it even so with --force");
    host.fails(&["bind", "--refuse", "tcp", "192.0.2.0/24", "22"], "\nfix: inlet bind --pass tcp 192.0.2.0/32 22");
    let file = r#"{"services": {"proxy": {}}, "rules": [{"to": "proxy", "protocol": "tcp", "local": "0.0.0.0/0", "ports": "any"EXCEPT}]}"#;
    let locked = host.apply(&file.replace("EXCEPT", ""));
    assert!(locked.code == Some(1) && locked.stderr.contains("except = [22]"), "{}", locked.stderr);
    let planned = host.feed(&["plan", "-"], &file.replace("EXCEPT", ""));
    let warning =
        format!("warning: tcp:0.0.0.0:22, pid {} (sshd), loses tcp 127.0.0.0-127.255.255.254:22, ", sshd.id());
    assert!(planned.stdout.contains(&warning), "{}", planned.stdout);
    ok(host.apply(&file.replace("EXCEPT", r#", "except": [22]"#)));
    // The rule that keeps it may not go either.
    let unbind = ["unbind", "tcp", "0.0.0.0/0", "22"];
    host.fails(&unbind, "rule `tcp 0.0.0.0/0 any -> proxy` would take ");
    host.ok(&[unbind.as_slice(), &["--force"]].concat());
    // To go back gives it what it had; forward again would take it.
    host.ok(&["rollback"]);
    host.fails(&["rollback"], "which serves SSH");
    host.ok(&["rollback", "--force"]);
}

/// This process is the parent of the command, as a shell is, and has a connection that came by a listener.
#[test]
fn a_session_is_not_cut_off() {
    let Some(host) = Host::up() else { return };
    let listener = std::net::TcpListener::bind("0.0.0.0:2222").unwrap();
    let any = ["bind", "proxy", "tcp", "127.0.0.0/8", "any"];
    let client = std::net::TcpStream::connect("127.0.0.1:2222").unwrap();
    let (session, _) = listener.accept().unwrap();
    host.fails(
        &any,
        "which serves this session\nfix: inlet bind --pass tcp 127.0.0.0/8 2222 (in a file: except = [2222])",
    );
    host.ok(&["bind", "proxy", "tcp", "127.0.0.0/8", "80-90"]);
    drop((client, session));
    host.ok(&any);
}

/// A listener that receives through a service keeps that too.
#[test]
fn a_session_through_a_service_is_not_cut_off() {
    let Some((host, _servers)) = host() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:2222").unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["service", "set", "shell"]);
    host.ok(&["bind", "shell", "tcp", "192.0.2.9", "22"]);
    host.ok(&["register", "shell", "--pid", &pid, "--listen", "tcp:127.0.0.1:2222"]);
    let _client = std::net::TcpStream::connect("192.0.2.9:22").unwrap();
    let (_session, _) = listener.accept().unwrap();
    host.fails(&["unbind", "tcp", "192.0.2.9", "22"], "would take 192.0.2.9:22 from tcp:127.0.0.1:2222");
    host.fails(&["bind", "proxy", "tcp", "192.0.2.9", "22"], "which serves this session");
    host.ok(&["bind", "proxy", "tcp", "192.0.2.10", "22"]);
}

/// That the ports for own binds are taken is foretold, in the words of the refusal that would follow.
#[test]
fn a_plan_foretells_that_own_binds_are_refused() {
    let Some(host) = Host::new() else { return };
    host.ok(&["up", "--own-ports", "21000-21009"]);
    let cgroup = Cgroup::new().unwrap();
    let path = format!("/{}", cgroup.path().file_name().unwrap().to_str().unwrap());
    let file = format!("services.game = {{ cgroup = {path:?}, binds = \"own\" }}\nrules = []\n");
    let taken = TcpServer::spawn("taken", at("127.0.0.1:21003")).unwrap();
    let planned = host.feed(&["plan", "-"], &file);
    let applied = host.apply(&file);
    assert_eq!((planned.code, applied.code), (Some(3), Some(1)), "{planned:?} {applied:?}");
    for told in [&planned.stdout, &applied.stderr] {
        assert!(told.contains("a socket is bound to tcp:127.0.0.1:21003"), "{told}");
    }
    drop(taken);
    let planned = host.feed(&["plan", "-"], &file);
    assert!(planned.code == Some(3) && !planned.stdout.contains("refused: own binds"), "{planned:?}");
    assert_eq!(host.apply(&file).code, Some(0));
}
