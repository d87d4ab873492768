//! What surprises: sockets of interfaces, groups that are not whole, descriptions that miss by an address; and the
//! check as programs use it.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use inlet_testkit::{
    Dial, End, Listen, Namespace, Netns, Program, Proto, TcpServer, UdpServer, answer_from_interfaces, dial_udp,
    output, veth,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::asked::{asked, codes, findings, one, outside, until};
use crate::{Host, PATIENCE, at};

#[test]
fn the_check_for_programs() {
    let Some(host) = Host::new() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let (code, found) = findings(&host, &[]);
    assert_eq!((code, codes(&found)), (Some(1), vec!["not-up"]));
    assert_eq!(one(&found, "not-up")["fix"], "inlet up");
    let ran = host.run(&["check", "--ignore", "not-up", "--ignore", "rp-filter", "--quiet"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    host.ok(&["up"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let text = r#"{"rules": [{"verdict": "refuse", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}]}"#;
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let in_force = || findings(&host, &["--in-force", path]);
    let (code, found) = in_force();
    assert_eq!((code, codes(&found)), (Some(1), vec!["not-in-force"]));
    host.ok(&["apply", path]);
    assert_eq!((in_force().0, codes(&in_force().1)), (Some(0), vec![]));
    host.ok(&["bind", "idle", "tcp", "192.0.2.7", "81"]);
    let (code, found) = in_force();
    assert_eq!((code, codes(&found)), (Some(1), vec!["not-in-force", "service-without-sockets"]));
    let different = one(&found, "not-in-force");
    assert_eq!(different["fix"], format!("see what differs with: inlet plan {path}"));
    let what = different["what"].as_str().unwrap();
    assert_eq!(what, "another ruleset is in force: rules that differ: 1, services: 1");
    let ignoring = ["check", "--in-force", path, "--ignore", "not-in-force", "--ignore", "service-without-sockets"];
    assert_eq!(host.run(&ignoring).code, Some(0));
    let ran = host.run(&["check", "--quiet"]);
    assert!(ran.code == Some(1) && ran.stdout.starts_with("error: service idle"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("note: ") && !ran.stdout.contains("1 error,"), "{}", ran.stdout);
    let ran = host.run(&["check", "--ignore", "no-such"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("rp-filter") && ran.stderr.contains("not-up"), "{}", ran.stderr);
    assert_eq!(host.run(&["check", path, "--in-force", path]).code, Some(2));
}

#[test]
fn a_description_that_misses_by_an_address_is_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["service", "set", "web", "--listen", "tcp:[::]:18110", "--user", "0"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let _server = TcpServer::spawn("web", at("0.0.0.0:18110")).unwrap();
    assert_eq!(asked("192.0.2.9:80"), "Refused");
    let (_, found) = findings(&host, &[]);
    let fix = one(&found, "service-without-sockets")["fix"].as_str().unwrap();
    assert!(
        fix.starts_with("inlet service set web --listen tcp:0.0.0.0:18110 --user 0 (tcp:0.0.0.0:18110 of process "),
        "{fix}"
    );
    assert!(fix.ends_with(" is not at tcp:[::]:18110, which the description means)"), "{fix}");
    host.ok(&["service", "set", "web", "--listen", "tcp:0.0.0.0:18110", "--user", "0"]);
    assert_eq!(asked("192.0.2.9:80"), "web");
}

#[test]
fn a_member_of_a_group_that_is_in_no_service_is_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let group = Listen::new().reuseport();
    let mut server = Command::new("socat");
    server.args(["TCP4-LISTEN:18111,bind=127.0.0.1,fork,reuseport", "SYSTEM:true"]);
    let mut server = Program::start(&mut server).unwrap();
    server.wait_listening(Proto::Tcp, at("127.0.0.1:18111"), PATIENCE).unwrap();
    let _in = TcpServer::spawn_with("in", at("127.0.0.1:18111"), group).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:18111"]);
    (0..40).for_each(|_| assert_eq!(asked("192.0.2.9:80"), "in"));
    let (code, found) = findings(&host, &[]);
    let outside = one(&found, "group-outside-service");
    let expected = format!(
        "tcp:127.0.0.1:18111 of process {} (socat) is bound as a socket of service web, and is not in it",
        server.id()
    );
    assert_eq!((code, &outside["severity"], &outside["what"]), (Some(0), &json!("note"), &json!(expected)));
    let fix = outside["fix"].as_str().unwrap().strip_suffix(", unless that is meant").unwrap();
    host.ok(&fix.split(' ').skip(1).collect::<Vec<_>>());
    assert!(!codes(&findings(&host, &[]).1).contains(&"group-outside-service"));
}

/// Two interfaces, and sockets that are bound to one of them.
#[test]
fn sockets_of_an_interface_receive_what_comes_in_there() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let here = Namespace::current().unwrap();
    let others = ["in-a", "in-b"].map(|name| {
        let other = Netns::unentered().unwrap();
        let number = if name == "in-a" { 0 } else { 1 };
        let (own, theirs) = (format!("10.9.{number}.1/24"), format!("10.9.{number}.2/24"));
        veth(
            End { namespace: &here, name, addresses: &[&own] },
            End { namespace: &other, name: "out", addresses: &[&theirs] },
        )
        .unwrap();
        other.ip(&["route", "add", "192.0.2.0/24", "via", &format!("10.9.{number}.1")]).unwrap();
        other
    });
    let _server = TcpServer::spawn_with("a", at("0.0.0.0:18112"), Listen::new().device("in-a")).unwrap();
    host.ok(&["service", "set", "web", "--listen", "tcp:0.0.0.0:18112", "--anyone"]);
    let said = host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let warning = "warning: service web has sockets for tcp 192.0.2.0/24:80 on in-a only: elsewhere they are refused\n";
    assert!(said.contains(warning), "{said}");
    let ask = |from: &Namespace| from.enter(|| asked("192.0.2.9:80"));
    let explained =
        |iface: &str| host.json(&["explain", "tcp", "192.0.2.9:80", "--from", "10.9.0.2:999", "--iface", iface]);
    assert_eq!([ask(&others[0]), ask(&others[1])], ["a", "Refused"]);
    let (on_a, on_b) = (explained("in-a"), explained("in-b"));
    assert_eq!((&on_a["outcome"], &on_a["socket"]["iface"]), (&json!("socket"), &json!("in-a")));
    assert_eq!((&on_b["outcome"], &on_b["socket"], &on_b["candidates"]), (&json!("refuse"), &Value::Null, &json!([])));
    assert_eq!(on_b["elsewhere"][0]["iface"], "in-a");
    let text = host.ok(&["explain", "tcp", "192.0.2.9:80"]);
    assert!(text.contains(": it receives only what comes in on in-a") && text.contains("--iface NAME"), "{text}");
    let (code, found) = findings(&host, &[]);
    let only = one(&found, "service-only-on-interfaces");
    assert_eq!((code, &only["severity"]), (Some(0), &json!("warning")));
    assert_eq!(
        only["what"],
        "all tcp sockets of service web are bound to in-a, and rule `tcp 192.0.2.0/24 80 -> web` is for other interfaces too"
    );
    let listeners = host.json(&["listeners"]);
    assert_eq!(listeners["services"][0]["only_on"], json!(["in-a"]));
    assert!(host.ok(&["listeners"]).contains("service web  1 socket, on in-a only\n"));
    // A rule for that interface has all that it needs.
    host.ok(&["unbind", "tcp", "192.0.2.0/24", "80"]);
    let said = host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80", "--iface", "in-a"]);
    assert!(!said.contains("warning"), "{said}");
    assert!(!codes(&findings(&host, &[]).1).contains(&"service-only-on-interfaces"));
    assert_eq!([ask(&others[0]), ask(&others[1])], ["a", "Refused"]);
}

#[test]
fn that_a_program_is_told_the_address_proves_nothing() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["service", "set", "dns", "--answers", "bound"]);
    host.ok(&["bind", "dns", "udp", "192.0.2.0/24", "18113"]);
    let _udp = UdpServer::spawn("dns", at("0.0.0.0:18113")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "dns", "--pid", &pid, "--listen", "udp:0.0.0.0:18113"]);
    let (code, found) = findings(&host, &[]);
    let unproven = one(&found, "udp-answers-unproven");
    assert_eq!((code, &unproven["severity"]), (Some(0), &json!("note")));
    assert!(unproven["why"].as_str().unwrap().ends_with("whether it does is not known here"));
}

/// A server that answers by IPV6_PKTINFO cannot do so from an address of a prefix that is only a local route, unless its
/// socket is registered, which sets what it takes.
#[test]
fn an_answer_that_the_kernel_refuses_is_found() {
    let Some(host) = Host::up() else { return };
    host.world.local("2001:db8::/64").unwrap();
    host.ok(&["bind", "dns", "udp", "2001:db8::/64", "18116"]);
    let server = UdpServer::spawn_with("dns", at("[::]:18116"), Listen::new().v6only()).unwrap();
    answer_from_interfaces(&server).unwrap();
    host.ok(&["service", "set", "dns", "--listen", "udp:[::]:18116", "--user", "root"]);
    let ask = |patience| dial_udp(at("[2001:db8::7]:18116"), &Dial::new().timeout(patience));
    assert!(ask(Duration::from_millis(300)).name().is_none());
    let (code, found) = findings(&host, &[]);
    let refused = one(&found, "udp-answers-refused");
    let pid = std::process::id().to_string();
    let fix = format!("inlet register dns --pid {pid}, which sets it");
    assert_eq!((code, &refused["severity"]), (Some(1), &json!("error")));
    assert!(refused["fix"].as_str().unwrap().starts_with(&fix), "{refused}");
    host.ok(&["register", "dns", "--pid", &pid, "--listen", "udp:[::]:18116"]);
    assert_eq!(ask(PATIENCE).name(), Some("dns"));
    let (code, found) = findings(&host, &[]);
    assert!(code == Some(0) && found.iter().all(|it| it["code"] != "udp-answers-refused"), "{found:?}");
}

/// Answers through an interface that came later leave from the port of their socket: it is named, and they are counted.
#[test]
fn answers_through_a_new_interface_are_counted() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "dns", "udp", "192.0.2.0/24", "53"]);
    let _server = UdpServer::spawn("dns", at("0.0.0.0:18117")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "dns", "--pid", &pid, "--listen", "udp:0.0.0.0:18117"]);
    let outside = outside(&host);
    let client = outside.enter(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        client.send_to(b"who", "192.0.2.7:53").unwrap();
        assert_eq!(client.recv_from(&mut [0; 64]).unwrap().1, at("192.0.2.7:18117"));
    }
    let explain = ["explain", "udp", "192.0.2.7:53", "--from", "10.9.0.2:99", "--iface", "inside"];
    assert_eq!(host.json(&explain)["answer"], json!({"from": "192.0.2.7:18117", "by": "uncovered"}));
    assert!(host.ok(&explain).contains("leaves from 192.0.2.7:18117 through inside, its likely way out, and a client"));
    let answers = &host.json(&["status"])["answers"];
    assert_eq!((&answers["uncovered"], &answers["counters"]["uncovered"]), (&json!(["inside"]), &json!(3)));
    assert!(host.ok(&["status"]).contains("3 left from the port of the socket, asked through such an interface\n"));
    let (_, found) = findings(&host, &[]);
    let why = one(&found, "udp-answers-uncovered")["why"].as_str().unwrap();
    assert!(why.ends_with(": 3 such answers so far"), "{why}");
}

/// The two sockets of a command that listens at two ports, as systemd would pass them: here it is the command's own
/// child.
#[test]
fn sockets_of_several_ports_from_systemd_are_a_question() {
    let Some(host) = Host::up() else { return };
    host.ok(&["service", "set", "web"]);
    let sockets = [18114, 18115].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
    // Copies that the shell may have; it is the process that inlet becomes.
    let passed = sockets.each_ref().map(|socket| rustix::io::dup(socket).unwrap());
    let [first, second] = passed.each_ref().map(std::os::fd::AsRawFd::as_raw_fd);
    let script = format!("exec 3<&{first} 4<&{second}; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\"",);
    let ran = |listen: &[&str]| {
        let inlet = host.command(&[&["register", "web", "--systemd"], listen].concat());
        let mut shell = Command::new("bash");
        output(shell.args(["-c", &script, "sh"]).arg(inlet.get_program()).args(inlet.get_args())).unwrap()
    };
    let said = ran(&[]);
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(
        !said.status.success() && error.starts_with("error: systemd has sockets at several ports of a protocol\n"),
        "{error}"
    );
    assert!(error.contains("--listen tcp:127.0.0.1:18114 --listen tcp:127.0.0.1:18115"), "{error}");
    let said = ran(&["--listen", "tcp:127.0.0.1:18115"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("adopted  tcp:127.0.0.1:18115"));
}

#[test]
fn a_run_that_was_killed_does_not_stop_the_next() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let run = |port: u16| {
        let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr");
        let mut command = host.command(&["run", "web"]);
        command.args(["--", "socat", &listen, "SYSTEM:echo found"]);
        Program::start(&mut command).unwrap()
    };
    let described = || host.json(&["services"])[0]["described"]["cgroup"].as_str().map(str::to_owned);
    // It makes its service.
    let mut first = run(18116);
    first.wait_listening(Proto::Tcp, at("127.0.0.1:18116"), PATIENCE).unwrap();
    let group = described().unwrap();
    first.signal(Signal::KILL).unwrap();
    first.wait_exit(PATIENCE).unwrap().unwrap();
    // Its command goes on without it, and the next takes the service over. While that lives, no other gets it.
    let mut second = run(18117);
    second.wait_listening(Proto::Tcp, at("127.0.0.1:18117"), PATIENCE).unwrap();
    let has = |address: &str| host.json(&["services"])[0]["sockets"][0]["local"] == *address;
    until("the service has it", || has("127.0.0.1:18117"));
    let taken = described().unwrap();
    assert_ne!(taken, group);
    let mut refused = run(18118);
    assert_eq!(refused.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(1));
    assert_eq!(described(), Some(taken.clone()));
    second.signal(Signal::TERM).unwrap();
    assert_eq!(second.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(128 + 15));
    assert_eq!(described(), None);
    // What the first left behind ends here.
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let root =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap().split(' ').nth(1).unwrap();
    let dir = std::path::PathBuf::from(format!("{root}{group}"));
    std::fs::write(dir.join("cgroup.kill"), "1").unwrap();
    until("the group is empty", || std::fs::read_to_string(dir.join("cgroup.events")).unwrap().contains("populated 0"));
    std::fs::remove_dir(dir).unwrap();
}
