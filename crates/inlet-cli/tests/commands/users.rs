//! Other users of the host: sockets of theirs that a description fits, and what is said of them.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use inlet_testkit::{Dial, Program, Proto, as_user, dial_tcp};
use serde_json::Value;

use crate::asked::{NOBODY, all_codes};
use crate::{Host, PATIENCE, at};

/// A server of another user at an address.
fn strange(address: &str) -> Program {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new("socat");
    command.args([format!("TCP-LISTEN:{port},bind={host},fork,reuseaddr").as_str(), "SYSTEM:echo"]);
    let mut server = Program::start(as_user(&mut command, NOBODY, NOBODY, &[])).unwrap();
    server.wait_listening(Proto::Tcp, at(address), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    server
}

/// How much what `check` says of open descriptions matters, and what.
fn open_to_anyone(host: &Host) -> Vec<(String, String)> {
    let ran = host.run(&["check", "--json"]);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let found = found["findings"].as_array().unwrap().iter().filter(|it| it["code"] == "open-to-anyone");
    found.map(|it| (text(it, "severity"), text(it, "what"))).collect()
}

#[test]
fn sockets_of_other_users_are_found_by_check() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["service", "set", "web", "--listen", "tcp:*:18092"]);
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "8443"]);
    let says = |severity: &str, packets: &str| {
        let what = format!("any local user can listen on tcp:*:18092 and so receive {packets}");
        vec![(severity.to_owned(), what)]
    };
    assert_eq!(open_to_anyone(&host), says("note", "192.0.2.0/24:8443"));
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "443"]);
    assert_eq!(open_to_anyone(&host), says("warning", "192.0.2.0/24:443"));
    let _ours = TcpListener::bind("127.0.0.1:18092").unwrap();
    assert!(!all_codes(&host).contains(&"sockets-of-several-users".to_owned()));
    let _theirs = strange("127.0.0.2:18092");
    assert!(all_codes(&host).contains(&"sockets-of-several-users".to_owned()));
    assert!(host.ok(&["status"]).contains("its sockets belong to users root and nobody"), "{}", host.ok(&["status"]));
    host.ok(&["service", "set", "web", "--listen", "tcp:*:18092", "--user", "root"]);
    let found = all_codes(&host);
    assert!(!found.iter().any(|code| code == "open-to-anyone" || code == "sockets-of-several-users"), "{found:?}");
    assert!(!host.ok(&["status"]).contains("belong to users"));
    let briefly = Dial::new().timeout(std::time::Duration::from_millis(200));
    assert_eq!(dial_tcp(at("192.0.2.9:443"), &briefly).local(), None, "nobody accepts there");
    host.ok(&["bind", "web", "udp", "192.0.2.0/24", "53"]);
    let connected = UdpSocket::bind("192.0.2.1:53").unwrap();
    connected.connect("127.0.0.1:5353").unwrap();
    assert!(all_codes(&host).contains(&"udp-connected".to_owned()));
}

#[test]
fn a_description_that_any_socket_fits_is_told() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let warns = |text: &str, packets: &str| {
        let line = format!("warning: any local user can listen on tcp:127.0.0.1:18093 and so receive {packets}\n");
        assert!(text.contains(&line), "{packets}: {text}");
    };
    let is_silent = |text: &str| assert!(!text.contains("any local user"), "{text}");
    let set = ["service", "set", "web", "--listen", "tcp:127.0.0.1:18093"];
    let more = |words: &[&'static str]| [&set, words].concat();
    warns(&host.ok(&set), "what rules give to service web");
    is_silent(&host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "8443"]));
    warns(&host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "443"]), "tcp 192.0.2.0/24:443");
    // The fix names the user who has the socket, and is the end of it.
    let _ours = TcpListener::bind("127.0.0.1:18093").unwrap();
    is_silent(&host.ok(&more(&["--user", "root"])));
    let said = host.ok(&set);
    warns(&said, "tcp 192.0.2.0/24:443");
    assert!(said.contains("fix: inlet service set web --listen tcp:127.0.0.1:18093 --user root (or "), "{said}");
    is_silent(&host.ok(&more(&["--anyone"])));
    is_silent(&host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]));
    assert!(!all_codes(&host).contains(&"open-to-anyone".to_owned()), "{:?}", all_codes(&host));
    assert!(host.ok(&["export"]).contains(r#""anyone": true"#), "{}", host.ok(&["export"]));
    host.ok(&["export", "--toml"]);
    assert!(host.feed(&["apply", "-"], &host.ok(&["export", "--toml"])).stdout.starts_with("no change"));
    assert_eq!(host.run(&more(&["--anyone", "--user", "root"])).code, Some(2));
    // A port that only privileged programs can open needs no such word.
    is_silent(&host.ok(&["service", "set", "low", "--listen", "tcp:127.0.0.1:1023"]));
    let said = host.ok(&["bind", "--to", "tcp:127.0.0.1:18094", "tcp", "192.0.2.1", "443"]);
    assert!(said.contains("listen on tcp:127.0.0.1:18094 and so receive tcp 192.0.2.1:443\n"), "{said}");
    for (extra, is_told) in [("", true), (r#", "anyone": true"#, false), (r#", "user": "root""#, false)] {
        let file = format!(
            r#"{{"services": {{"web": {{"listen": "udp:*:18095"{extra}}}}},
                "rules": [{{"to": "web", "protocol": "udp", "local": "192.0.2.0/24", "ports": 53}}]}}"#
        );
        let line = "warning: any local user can listen on udp:*:18095 and so receive udp 192.0.2.0/24:53\n";
        for command in [["plan", "-"], ["apply", "-"]] {
            let said = host.feed(&command, &file).stdout;
            assert_eq!(said.contains(line), is_told, "{command:?} {extra}: {said}");
        }
    }
}

#[test]
fn a_socket_of_another_user_is_told_when_it_is_adopted() {
    let Some(host) = Host::up() else { return };
    let ours = TcpListener::bind("127.0.0.1:18096").unwrap();
    let theirs = strange("127.0.0.2:18096");
    let said = host.ok(&["service", "set", "web", "--listen", "tcp:*:18096", "--anyone"]);
    assert!(said.contains("warning: the sockets of service web belong to users root and nobody"), "{said}");
    host.ok(&["unregister", "web"]);
    host.ok(&["service", "set", "hand"]);
    let pid = std::process::id().to_string();
    let register = |pid: &str, address: &str| {
        host.ok(&["service", "set", "web", "--by-hand"]);
        host.ok(&["register", "hand", "--pid", pid, "--listen", address])
    };
    assert!(!register(&pid, "tcp:127.0.0.1:18096").contains("warning"));
    let said = register(&theirs.id().to_string(), "tcp:127.0.0.2:18096");
    let line = "warning: tcp:127.0.0.2:18096 belongs to user nobody, the other sockets of service hand do not\nfix: ";
    assert!(said.contains(line), "{said}");
    host.ok(&["unregister", "hand"]);
    drop(ours);
}
