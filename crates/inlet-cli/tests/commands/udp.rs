//! What is told of services over UDP: a socket that its program connected, and flows that ask elsewhere than before.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;

use inlet_testkit::{output, require_program};
use rustix::net::sockopt::socket_cookie;
use serde_json::json;

use crate::asked::{findings, one, outside, until};
use crate::{Host, PATIENCE, at};

fn socket(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A host whose service has this socket, by a rule for one port.
fn serving() -> Option<(Host, UdpSocket)> {
    let host = Host::up()?;
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "udp", "192.0.2.0/24", "5201"]);
    let server = socket("127.0.0.1:0");
    let (pid, local) = (std::process::id().to_string(), format!("udp:{}", server.local_addr().unwrap()));
    host.ok(&["register", "web", "--pid", &pid, "--listen", &local]);
    Some((host, server))
}

#[test]
fn one_client_that_asks_two_addresses_is_ambiguous() {
    let Some((host, server)) = serving() else { return };
    let client = socket("127.0.0.1:0");
    let ambiguous = |count: u64| {
        let said = host.json(&["status"])["answers"]["counters"]["ambiguous"].clone();
        let line = format!(" flows noted, {count} ambiguous (one asked elsewhere than before)");
        said == json!(count) && host.ok(&["status"]).contains(&line)
    };
    for (target, count) in [("192.0.2.7:5201", 0), ("192.0.2.7:5201", 0), ("192.0.2.8:5201", 1), ("192.0.2.7:5201", 2)]
    {
        client.send_to(b"question", at(target)).unwrap();
        server.recv_from(&mut [0; 16]).unwrap();
        assert!(ambiguous(count), "{target}: {}", host.ok(&["status"]));
    }
}

/// A client of the host keeps its answers under a rule for all ports, and every command says so.
#[test]
fn a_client_keeps_its_answers() {
    let Some(host) = Host::up() else { return };
    host.world.ip(&["addr", "add", "198.51.100.1/32", "dev", "lo"]).unwrap();
    let (server, client) = (socket("127.0.0.1:18118"), socket("0.0.0.0:0"));
    host.world.sysctl("net/ipv4/ip_local_port_range", "32768 60999").unwrap();
    let name = format!("udp:{}", client.local_addr().unwrap());
    let but = |said: &str| {
        let lines = said.lines().find(|line| line.contains(&name) && line.contains(" loses ")).map(str::to_owned);
        lines.is_some_and(|line| line.ends_with(", but for answers to what it sent"))
    };
    let plan = host.run(&["bind", "web", "udp", "0.0.0.0/0", "any"]);
    assert!(but(&plan.stderr) || but(&plan.stdout), "{}{}", plan.stderr, plan.stdout);
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "udp:127.0.0.1:18118"]);
    client.send_to(b"question", at("127.0.0.1:18118")).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"answer", from).unwrap();
    client.recv(&mut [0; 16]).unwrap();

    let (_, found) = findings(&host, &[]);
    let its = found.iter().find(|it| it["what"].as_str().unwrap().starts_with(&name)).unwrap();
    assert_eq!(json!([its["code"], its["severity"]]), json!(["listener-shadowed", "note"]), "{its}");
    assert!(its["what"].as_str().unwrap().contains(" receives from outside only answers to what it sent, "), "{its}");
    let said = host.ok(&["listeners"]);
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with(&name)).take(2).collect();
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>().join(" "), "answers to what it sent", "{said}");
}

/// What a service says of its answers is shown where its other settings are.
#[test]
fn what_a_service_says_of_answers_is_shown() {
    let Some((host, _server)) = serving() else { return };
    let told =
        || [&host.json(&["services"])[0], &host.json(&["status"])["services"][0]].map(|it| it["answers"].clone());
    assert_eq!(told(), [json!(null), json!(null)]);
    for answers in ["bound", "asked"] {
        host.ok(&["service", "set", "web", "--answers", answers]);
        assert_eq!(told(), [json!(answers), json!(answers)]);
        let status = host.ok(&["status"]);
        assert!(status.contains(&format!("on missing: refuse, answers: {answers}\n")), "{status}");
        let row = host.ok(&["services"]).lines().last().unwrap().split_whitespace().nth(2).map(str::to_owned);
        assert_eq!(row.as_deref(), Some(answers));
    }
}

/// No answer leaves from an address that is local by another table than `local`, so nothing is said of where it leaves from.
#[test]
fn an_answer_that_cannot_leave_is_told_once() {
    let Some((host, server)) = serving() else { return };
    host.world.ip(&["route", "add", "local", "198.51.100.0/24", "dev", "lo", "table", "100"]).unwrap();
    host.world.ip(&["rule", "add", "iif", "lo", "lookup", "100"]).unwrap();
    host.ok(&["bind", "web", "udp", "198.51.100.0/24", "5201"]);
    let client = socket("127.0.0.1:0");
    client.send_to(b"question", at("198.51.100.7:5201")).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(server.send_to(b"answer", from).map_err(|error| error.kind()), Err(ErrorKind::NetworkUnreachable));
    let asked = ["explain", "udp", "198.51.100.7:5201", "--from", &from.to_string(), "--iface", "lo"];
    let said = host.ok(&asked);
    assert!(said.contains("only by a socket with IP_TRANSPARENT") && !said.contains("leaves from"), "{said}");
    let said = host.json(&asked);
    assert_eq!(json!([said["address"]["answers"], said["answer"]]), json!([false, null]));
}

/// A firewall that lets out what is established drops the answers. With the fix and what it says to accept they come, and the
/// finding is a note.
#[test]
fn answers_that_connection_tracking_drops() {
    let Some((host, server)) = serving() else { return };
    if !require_program("nft") {
        return;
    }
    let shell =
        |line: &str| assert!(output(Command::new("sh").args(["-ec", line])).unwrap().status.success(), "{line}");
    shell("nft add table inet f; nft 'add chain inet f out { type filter hook output priority 0; policy drop; }'");
    shell("nft add rule inet f out ct state established accept; nft add rule inet f out oif lo accept");
    host.world.sysctl("net/netfilter/nf_conntrack_udp_timeout", "1").unwrap();
    let outside = outside(&host);
    // Covers the new interface.
    host.ok(&["bind", "web", "udp", "192.0.2.0/24", "5201"]);
    let client = outside.enter(|| socket("10.9.0.2:0"));
    client.connect("192.0.2.7:5201").unwrap();
    let answers = || {
        client.send(b"question").unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        server.send_to(b"answer", from).is_ok() && client.recv(&mut [0; 16]).is_ok()
    };
    let own = server.local_addr().unwrap().port();
    let tracked = || one(&findings(&host, &[]).1, "udp-answers-tracked").clone();
    assert!(!answers());
    let found = tracked();
    assert_eq!(found["severity"], "warning", "{found}");
    let accept = format!("needs `udp dport 5201 accept` for input, `udp sport {own} accept` for output");
    assert!(found["why"].as_str().unwrap().contains(&accept), "{found}");
    shell(found["fix"].as_str().unwrap());
    assert!(!answers());
    shell(&format!("nft add rule inet f out udp sport {own} accept"));
    until("a note", || {
        // Flows of others are tracked all the time.
        socket("127.0.0.1:0").send_to(b"other", "127.0.0.1:5201").unwrap();
        answers() && tracked()["severity"] == "note"
    });
}

#[test]
fn a_connected_socket_is_told_by_every_command() {
    let Some((host, server)) = serving() else { return };
    let (cookie, own) = (socket_cookie(&server).unwrap(), server.local_addr().unwrap());
    let peer = socket("127.0.0.1:0").local_addr().unwrap();
    assert_eq!(host.json(&["status"])["services"][0]["sockets"][0]["peer"], json!(null));
    server.connect(peer).unwrap();

    let name = format!("udp:{own} (connected to {peer}, receives from there only)");
    let fix = "use a server that leaves its socket unconnected, or one that opens another for the next client";
    let status = host.ok(&["status"]);
    for text in [name.as_str(), &format!("cookie {cookie}"), "no socket that receives", fix] {
        assert!(status.contains(text), "{text}: {status}");
    }
    let socket = host.json(&["status"])["services"][0]["sockets"][0].clone();
    assert_eq!(
        json!([cookie, false, peer.to_string()]),
        json!([socket["cookie"], socket["receiving"], socket["peer"]])
    );

    let said = host.ok(&["listeners"]);
    assert!(said.contains(&name) && said.contains("service web  1 socket, 0 of them receiving"), "{said}");
    let said = host.json(&["listeners"]);
    let its = said["listeners"].as_array().unwrap().iter().find(|it| it["cookie"] == cookie).unwrap();
    assert_eq!(json!([its["peer"], its["service"], its["receives"]]), json!([peer.to_string(), "web", []]));

    let ran = host.run(&["check"]);
    assert_eq!(ran.code, Some(1));
    let told = format!("of service web is connected to {peer}, and receives nothing by rules\n");
    assert!(ran.stdout.contains(&told) && ran.stdout.matches(fix).count() == 2, "{}", ran.stdout);

    let said = host.ok(&["explain", "udp", "192.0.2.7:5201"]);
    assert!(said.contains(&format!("{name}  cookie {cookie}")) && said.contains(fix), "{said}");
    let said = host.json(&["explain", "udp", "192.0.2.7:5201"]);
    assert_eq!(
        json!([said["outcome"], said["candidates"], said["silent"][0]["cookie"]]),
        json!(["refuse", [], cookie])
    );
    let from = ["explain", "udp", &own.to_string(), "--from", &peer.to_string()];
    assert!(host.ok(&from).contains("no rule is asked: a socket is connected to this source"), "{}", host.ok(&from));
    let said = host.json(&from);
    assert_eq!(json!([said["outcome"], said["connected"]["cookie"]]), json!(["socket", cookie]));
}
