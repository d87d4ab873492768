//! Servers as languages make them by default: one dual-stack socket for both families; and multipath TCP, which the kernel does
//! not steer.

use std::path::Path;
use std::process::Command;

use inlet_testkit::{Answer, Dial, Proto, dial_tcp, require_feature, require_program};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, LISTEN, LONG, at, describe, host, sockets, wait_for_sockets};

/// Serves at any address, both families with one socket.
const PYTHON: &str = r#"
import socket
def plain(ip, port, *_):
    return f"{ip[7:]}:{port}" if ip.startswith("::ffff:") else f"[{ip}]:{port}"
server = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, peer = server.accept()
    with client:
        client.sendall(f"python {plain(*client.getsockname())} {plain(*peer)}\n".encode())
"#;

const NODE: &str = r#"
const plain = (ip, port) => ip.startsWith("::ffff:") ? `${ip.slice(7)}:${port}` : `[${ip}]:${port}`;
require("net").createServer(client => {
    client.on("error", () => {});
    const [here, peer] = [plain(client.localAddress, client.localPort), plain(client.remoteAddress, client.remotePort)];
    client.end(`node ${here} ${peer}\n`);
}).listen(8080);
"#;

/// Listens as the protocol with the number given.
const LISTENER: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8080))
server.listen()
while True:
    client, peer = server.accept()
    with client:
        here = client.getsockname()
        client.sendall(f"python {here[0]}:{here[1]} {peer[0]}:{peer[1]}\n".encode())
"#;
const PLAIN_TCP: &str = "6";
const MULTIPATH_TCP: &str = "262";

fn dial(target: &str) -> Answer {
    dial_tcp(at(target), &Dial::new().timeout(LONG))
}

/// Both families are steered to it, before and after a restart.
#[track_caller]
fn serves_both_families(name: &str, program: &str, args: &[&str]) {
    let Some(host) = host(&["tcp:[::]:8080"]) else { return };
    if !require_program(program) {
        return;
    }
    let dir = TempDir::new().unwrap();
    for round in ["first", "again"] {
        let mut daemon = Daemon::start(dir.path(), Command::new(program).args(args));
        daemon.wait_listening(Proto::Tcp, "[::1]:8080");
        wait_for_sockets(&host, 1);
        for target in ["192.0.2.7:443", "[2001:db8::7]:8000"] {
            let answer = dial(target);
            assert_eq!((answer.name(), answer.local()), (Some(name), Some(at(target))), "{round}: {}", daemon.log());
        }
        daemon.end(Signal::KILL);
        wait_for_sockets(&host, 0);
        assert_eq!(dial("192.0.2.7:443"), Answer::Refused, "{round}");
    }
}

#[test]
fn python() {
    serves_both_families("python", "python3", &["-c", PYTHON]);
}

#[test]
fn node() {
    serves_both_families("node", "node", &["-e", NODE]);
}

fn listener(dir: &Path, protocol: &str) -> Daemon {
    let mut daemon = Daemon::start(dir, Command::new("python3").args(["-c", LISTENER, protocol]));
    daemon.wait_listening(Proto::Tcp, LISTEN);
    daemon
}

#[track_caller]
fn tells_of_multipath_tcp(text: &str) {
    assert!(text.contains("multipath TCP, which the kernel does not steer; make it plain TCP"), "{text}");
    assert!(text.contains("GODEBUG=multipathtcp=0"), "{text}");
}

/// `status` says why a listener of multipath TCP gets nothing and what to do; once that is done it is steered to.
#[test]
fn multipath_tcp() {
    let description = format!("tcp:{LISTEN}");
    let Some(host) = host(&[&description]) else { return };
    let has_it = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).is_ok();
    if !require_program("python3") || !require_feature(has_it, "CONFIG_MPTCP", (5, 6)) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let daemon = listener(dir.path(), MULTIPATH_TCP);
    refused_once(&host, &daemon);
    daemon.end(Signal::KILL);
    let daemon = listener(dir.path(), PLAIN_TCP);
    wait_for_sockets(&host, 1);
    assert_eq!(dial("192.0.2.7:443").name(), Some("python"));
    daemon.end(Signal::KILL);
    // One that listens already when the service is described.
    host.ok(&["service", "set", "web", "--by-hand"]);
    let daemon = listener(dir.path(), MULTIPATH_TCP);
    describe(&host, &[&description]);
    assert_eq!(sockets(&host), 0);
    let ran = host.run(&["adopt"]);
    assert_eq!(ran.code, Some(1));
    tells_of_multipath_tcp(&ran.stderr);
    refused_once(&host, &daemon);
}

#[track_caller]
fn refused_once(host: &Host, daemon: &Daemon) {
    crate::wait_until("the refusal", || host.json(&["services"])[0]["refused"].is_object());
    let web = &host.json(&["services"])[0];
    let refused = &web["refused"];
    assert_eq!((refused["count"].as_u64(), refused["local"].as_str()), (Some(1), Some(LISTEN)));
    assert_eq!(refused["pid"].as_u64(), Some(daemon.id().into()));
    let status = host.ok(&["status"]);
    tells_of_multipath_tcp(&status);
    assert!(status.contains(&format!("refused 1, last tcp:{LISTEN} of pid {} (python3", daemon.id())), "{status}");
    assert!(status.contains(&format!("waiting for tcp:{LISTEN}")), "{status}");
    assert_eq!(dial("192.0.2.7:443"), Answer::Refused);
}
