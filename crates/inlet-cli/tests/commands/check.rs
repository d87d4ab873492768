//! `check`: what is wrong with the host, the rules, the services and the sockets.

use std::process::Command;

use inlet_testkit::{Cgroup, Dial, Program, Proto, TcpServer, UdpServer, as_user, output, require_feature};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with};
use serde_json::{Value, json};

use crate::asked::{apply_fix, codes, findings, one};
use crate::{Host, PATIENCE, at};

#[test]
fn nothing_is_amiss_with_an_instance_in_order() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let _server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(0), vec![]));
    assert!(host.ok(&["check"]).ends_with("0 errors, 0 warnings, 0 notes\n") || !found.is_empty());
}

#[test]
fn what_is_wrong_with_rules_is_found_and_mended() {
    let Some(host) = Host::up() else { return };
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80"]);
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/25", "80"]);
    host.ok(&["bind", "--pass", "tcp", "192.0.2.128/25", "any"]);
    host.ok(&["bind", "--refuse", "udp", "239.0.0.0/8", "5000"]);
    host.ok(&["service", "set", "idle"]);
    let (code, found) = findings(&host, &[]);
    let expected = ["prefix-not-local", "rule-for-multicast", "rule-never-matches", "service-without-rules"];
    assert_eq!((code, codes(&found)), (Some(0), expected.to_vec()), "no error");
    assert_eq!(found[0]["severity"], "warning", "what matters most first");
    let never = one(&found, "rule-never-matches");
    assert_eq!(never["what"], "rule `tcp 192.0.2.0/24 80 -> refuse` can never match");
    assert_eq!(never["fix"], "inlet unbind tcp 192.0.2.0/24 80");
    found.iter().filter(|it| it["code"] != "rp-filter").for_each(|finding| apply_fix(&host, finding));
    assert_eq!(codes(&findings(&host, &[]).1), [""; 0]);
}

#[test]
fn an_interface_that_is_gone_or_new_is_found() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let make = || host.world.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    make();
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80", "--iface", "v0"]);
    assert_eq!(codes(&findings(&host, &[]).1), [""; 0]);
    host.world.ip(&["link", "del", "v0"]).unwrap();
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(1), vec!["interface-gone"]));
    make();
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(1), vec!["interface-made-anew"]));
    apply_fix(&host, &found[0]);
    assert_eq!(findings(&host, &[]).0, Some(0));
}

#[test]
fn what_is_wrong_with_services_and_sockets_is_found() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let _wildcard = TcpServer::spawn("wildcard", at("0.0.0.0:8080")).unwrap();
    let _shadowed = TcpServer::spawn("shadowed", at("192.0.2.7:9090")).unwrap();
    let _udp = UdpServer::spawn("dns", at("0.0.0.0:5353")).unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    host.ok(&["bind", "dns", "udp", "192.0.2.0/24", "any"]);
    let (code, found) = findings(&host, &[]);
    let missing: Vec<&Value> = found.iter().filter(|it| it["code"] == "service-without-sockets").collect();
    assert_eq!((code, missing.len(), &missing[0]["severity"]), (Some(1), 2, &"error".into()));
    // From the wildcard listener all that is not loopback is taken, and from the other everything.
    let shadowed: Vec<&str> =
        found.iter().filter(|it| it["code"] == "listener-shadowed").map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(shadowed.len(), 3, "{shadowed:?}");
    assert!(shadowed[0].starts_with("tcp:0.0.0.0:8080 of process "), "{shadowed:?}");
    host.world.ip(&["addr", "add", "198.51.100.1/32", "dev", "lo"]).unwrap();
    let (_, found) = findings(&host, &[]);
    assert_eq!(found.iter().filter(|it| it["code"] == "listener-receives-less").count(), 2, "{found:?}");
    let pid = std::process::id().to_string();
    host.ok(&["register", "dns", "--pid", &pid, "--listen", "udp:0.0.0.0:5353"]);
    let (_, found) = findings(&host, &[]);
    // Answers to clients of the host pass, and others leave from where they were asked, unless the service says otherwise.
    for code in ["udp-takes-answers", "udp-answers-from-other-port"] {
        assert!(!codes(&found).contains(&code), "{found:?}");
    }
    host.ok(&["service", "set", "dns", "--answers", "bound"]);
    let (_, found) = findings(&host, &[]);
    let other_port = one(&found, "udp-answers-from-other-port");
    assert_eq!(other_port["fix"], "inlet service set dns --answers asked");
    // That server asks which address a datagram was for; this socket does not.
    assert!(!codes(&found).contains(&"udp-answers-from-other-address"), "{found:?}");
    let plain = std::net::UdpSocket::bind("0.0.0.0:5354").unwrap();
    host.ok(&["register", "dns", "--pid", &pid, "--listen", "udp:0.0.0.0:5354"]);
    let (_, found) = findings(&host, &[]);
    // It is told where it is so: some kernels count no bytes of a socket in a map.
    plain.send_to(b"some", "127.0.0.1:5354").unwrap();
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&plain, PollFlags::IN)], Some(&patience)).unwrap(), 1);
    let waiting = rustix::io::ioctl_fionread(&plain).unwrap();
    assert_eq!(waiting == 0, codes(&found).contains(&"udp-fionread"), "{waiting}: {found:?}");
    let answers = one(&found, "udp-answers-from-other-address")["what"].as_str().unwrap();
    assert!(answers.starts_with("udp:0.0.0.0:5354 of process "), "{answers}");
}

#[test]
fn a_multipath_listener_is_told() {
    let Some(host) = Host::up() else { return };
    let kind = (AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::MPTCP));
    let mptcp = socket_with(kind.0, kind.1, kind.2, kind.3);
    if !require_feature(mptcp.is_ok(), "multipath TCP", (5, 6)) {
        return;
    }
    let mptcp = mptcp.unwrap();
    bind(&mptcp, &at("127.0.0.1:8080")).unwrap();
    listen(&mptcp, 8).unwrap();
    let _plain = TcpServer::spawn("plain", at("127.0.0.1:8081")).unwrap();
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(0), vec!["listener-mptcp"]));
    assert!(found[0]["what"].as_str().unwrap().starts_with("tcp:127.0.0.1:8080 "), "{found:?}");
}

#[test]
fn without_rights_the_rest_is_named() {
    let Some(host) = Host::up() else { return };
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.0/24", "80"]);
    let said = output(as_user(&mut host.command(&["check"]), 65534, 65534, &[])).unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!((said.status.code(), said.stderr.len()), (Some(0), 0), "{text}");
    assert!(text.contains("not checked: the kernel: "), "{text}");
    assert!(text.contains("not checked: the instance, its rules and services: "), "{text}");
    let said = output(as_user(&mut host.command(&["listeners"]), 65534, 65534, &[])).unwrap();
    assert_eq!(said.status.code(), Some(1), "without its rules the answer would be wrong");
}

#[test]
fn a_file_is_checked_before_it_is_in_force() {
    let Some(host) = Host::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let rules = r#"[{"verdict": "refuse", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}]"#;
    std::fs::write(&file, format!(r#"{{"services": {{"web": {{}}}}, "rules": {rules}}}"#)).unwrap();
    let path = file.to_str().unwrap();
    let (code, found) = findings(&host, &[path]);
    assert_eq!((code, codes(&found)), (Some(0), vec!["prefix-not-local", "service-without-rules"]));
    std::fs::write(&file, r#"{"rules": [{}]}"#).unwrap();
    let ran = host.run(&["check", path]);
    assert!(ran.code == Some(1) && ran.stderr.contains("rules.json"), "{ran:?}");
    let described = r#"{"services": {"web": {"listen": ["tcp:127.0.0.1:8080"], "user": "root"}},
        "rules": [{"to": "web", "protocol": "tcp", "local": "127.0.0.9", "ports": 80}]}"#;
    std::fs::write(&file, described).unwrap();
    let (code, found) = findings(&host, &[path]);
    assert_eq!((code, codes(&found)), (Some(0), vec!["service-without-sockets"]));
    assert!(
        found[0]["fix"].as_str().unwrap().contains("description (listen tcp:127.0.0.1:8080 user root)"),
        "{found:?}"
    );
    // A listener that is there already will be had.
    let listener = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
    assert_eq!(codes(&findings(&host, &[path]).1), [""; 0]);
    drop(listener);
    // A file that asks for routes makes its prefixes local, unless that cuts the host off.
    std::fs::write(&file, format!(r#"{{"routes": "manage", "rules": {rules}}}"#)).unwrap();
    assert_eq!(codes(&findings(&host, &[path]).1), [""; 0]);
    host.world.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    host.world.ip(&["addr", "add", "192.0.2.1/24", "dev", "v0"]).unwrap();
    host.world.ip(&["link", "set", "v0", "up"]).unwrap();
    let (code, found) = findings(&host, &[path]);
    assert_eq!((code, codes(&found)), (Some(1), vec!["routes-refused"]));
    // Without an instance the host is looked at, and that there is none is an error.
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(1), vec!["not-up"]));
}

#[test]
fn routes_are_kept_until_down() {
    let Some(host) = Host::up() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let rule = r#"{"verdict": "refuse", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}"#;
    std::fs::write(&file, format!(r#"{{"rules": [{rule}]}}"#)).unwrap();
    let path = file.to_str().unwrap();
    let local = || host.world.ip(&["route", "show", "table", "local", "proto", "73"]).unwrap();
    let said = host.ok(&["apply", path, "--routes"]);
    assert!(said.contains("+ route local 192.0.2.0/24 dev lo\n") && local().contains("192.0.2.0/24"), "{said}");
    assert_eq!(host.ok(&["apply", path, "--routes"]), "no change\ngeneration 2\n");
    let said = host.json(&["bind", "--refuse", "tcp", "198.51.100.0/24", "80"]);
    assert_eq!(said["routes"], json!({"kept": true, "added": ["198.51.100.0/24"], "removed": []}));
    let said = host.ok(&["explain", "tcp", "198.51.100.1:80"]);
    assert!(said.contains("local 198.51.100.0/24 dev lo made by inlet"), "{said}");
    // A route that somebody removed is missed by check, and made anew with the next commit.
    host.world.ip(&["route", "del", "local", "198.51.100.0/24"]).unwrap();
    let (_, found) = findings(&host, &[]);
    apply_fix(&host, one(&found, "prefix-not-local"));
    assert_eq!(codes(&findings(&host, &[]).1), [""; 0]);
    let said = host.ok(&["apply", path]);
    assert!(said.contains("- route local 192.0.2.0/24 dev lo\n") && local().is_empty(), "{said}");
    host.ok(&["apply", path, "--routes"]);
    host.ok(&["down"]);
    assert_eq!(local(), "");
}

#[test]
fn the_unit_of_an_owner_is_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let cgroup = Cgroup::new().unwrap();
    let unit = cgroup.path().join("inlet-check.service");
    std::fs::create_dir(&unit).unwrap();
    let mut server = Command::new("socat");
    server.args(["TCP-LISTEN:8080,bind=192.0.2.7,fork,reuseaddr", "SYSTEM:true"]);
    let mut server = Program::start(&mut server).unwrap();
    server.wait_listening(Proto::Tcp, at("192.0.2.7:8080"), PATIENCE).unwrap();
    std::fs::write(unit.join("cgroup.procs"), server.id().to_string()).unwrap();
    let said = host.json(&["explain", "tcp", "192.0.2.7:8080"]);
    let owner = &said["without"]["sockets"][0]["owners"][0];
    assert_eq!((&owner["command"], &owner["unit"]), (&"socat".into(), &"inlet-check.service".into()), "{said}");
    let said = host.ok(&["explain", "tcp", "192.0.2.7:8080"]);
    assert!(said.contains("(socat) of inlet-check.service"), "{said}");
    drop(server);
    std::fs::remove_dir(&unit).unwrap();
}

#[test]
fn sockets_that_wait_to_be_adopted_are_found() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["service", "set", "dns", "--listen", "udp:127.0.0.1:18053"]);
    host.ok(&["bind", "dns", "udp", "192.0.2.0/24", "18053"]);
    let (_, found) = findings(&host, &[]);
    let waits = one(&found, "service-without-sockets")["fix"].as_str().unwrap();
    assert!(waits.starts_with("start a server that fits its description (listen udp:127.0.0.1:18053)"), "{waits}");
    // Nobody watches: what is bound from now on is not found by itself.
    let _other = UdpServer::spawn("other", at("127.0.0.1:18054")).unwrap();
    let _dns = UdpServer::spawn("dns", at("127.0.0.1:18053")).unwrap();
    let (_, found) = findings(&host, &[]);
    let adopt = "inlet adopt (or let this run, which finds those to come too: inlet watch)";
    assert_eq!(one(&found, "service-without-sockets")["fix"], adopt);
    let waits = found.iter().filter(|it| it["code"] == "socket-not-adopted").collect::<Vec<_>>();
    assert_eq!((waits.len(), &waits[0]["fix"]), (1, &json!(adopt)));
    assert_eq!(waits[0]["what"], "udp:127.0.0.1:18053 is described by service dns, which does not have it");
    apply_fix(&host, waits[0]);
    let (code, found) = findings(&host, &[]);
    let codes = codes(&found);
    assert!(code == Some(0) && !codes.contains(&"socket-not-adopted"), "{found:?}");
    assert!(!codes.contains(&"service-without-sockets"), "{found:?}");
    let answer = inlet_testkit::dial_udp(at("192.0.2.9:18053"), &Dial::new().timeout(PATIENCE));
    assert_eq!(answer.name(), Some("dns"));
}

/// Descriptions find the hierarchy wherever it is mounted, and so does the check.
#[test]
fn cgroups_are_found_wherever_they_are_mounted() {
    let Some(host) = Host::up() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: nobody else sees what is mounted there.
    let moved = "mount -t cgroup2 none \"$DIR\" && umount -R -l /sys/fs/cgroup && exec \"$@\"";
    let inside = |script: &str, args: &[&str]| {
        let command = host.command(args);
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        output(shell.env("DIR", elsewhere.path())).unwrap()
    };
    let warns = |script: &str| {
        let said: Value = serde_json::from_slice(&inside(script, &["check", "--json"]).stdout).unwrap();
        said["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "no-cgroup2")
    };
    assert!(!warns(moved));
    let described = inside(moved, &["service", "set", "web", "--listen", "tcp:127.0.0.1:18097"]);
    assert!(described.status.success(), "{}", String::from_utf8_lossy(&described.stderr));
    // Without any it is missed.
    let without = "for dir in $(awk '$0 ~ / - cgroup2 / {print $5}' /proc/self/mountinfo); do umount -l \"$dir\"; done; exec \"$@\"";
    assert!(warns(without));
}
