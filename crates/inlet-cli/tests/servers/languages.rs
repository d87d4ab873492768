//! Servers as languages make them by default: one dual-stack socket for both families; and multipath TCP, Go's default,
//! which the kernel does not steer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use inlet_testkit::{Answer, Dial, Proto, dial_tcp, output, require, require_feature, require_program};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, at, describe, host, sockets, wait_for_sockets};

/// Where these servers listen: at any address, both families with one socket.
const DUAL_STACK: &str = "[::]:8080";

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

const GO: &str = r#"
package main

import (
	"fmt"
	"net"
)

func main() {
	listener, err := net.Listen("tcp", ":8081")
	if err != nil {
		panic(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(client, "go", client.LocalAddr(), client.RemoteAddr())
		client.Close()
	}
}
"#;
/// A port of its own, as below: listeners of other namespaces at a described address are counted as refused too.
const GO_LISTENS: &str = "[::]:8081";
/// From this version on Go listens with multipath TCP where the kernel has it.
const GO_MODULE: &str = "module server\n\ngo 1.24\n";

/// Prints where a Go tool is.
const SCRIPT_GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/go");

/// Listens as the protocol with the number given.
const LISTENER: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8082))
server.listen()
while True:
    client, peer = server.accept()
    with client:
        here = client.getsockname()
        client.sendall(f"python {here[0]}:{here[1]} {peer[0]}:{peer[1]}\n".encode())
"#;
const PYTHON_LISTENS: &str = "127.0.0.1:8082";
const PLAIN_TCP: &str = "6";
const MULTIPATH_TCP: &str = "262";

fn dial(target: &str) -> Answer {
    dial_tcp(at(target), &Dial::new().timeout(PATIENCE))
}

/// Both families are steered to it, before and after a restart.
#[track_caller]
fn serves_both_families(host: &Host, name: &str, listens: &str, command: &dyn Fn() -> Command) {
    let dir = TempDir::new().unwrap();
    for round in ["first", "again"] {
        let mut daemon = Daemon::start(dir.path(), &mut command());
        daemon.wait_listening(Proto::Tcp, listens);
        wait_for_sockets(host, 1);
        for target in ["192.0.2.7:443", "[2001:db8::7]:8000"] {
            let answer = dial(target);
            assert_eq!((answer.name(), answer.local()), (Some(name), Some(at(target))), "{round}: {}", daemon.log());
        }
        daemon.end(Signal::KILL);
        wait_for_sockets(host, 0);
        assert_eq!(dial("192.0.2.7:443"), Answer::Refused, "{round}");
    }
}

fn script(program: &str, args: [&str; 2]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

#[test]
fn python() {
    let Some(host) = host(&[&format!("tcp:{DUAL_STACK}")]) else { return };
    if require_program("python3") {
        serves_both_families(&host, "python", DUAL_STACK, &|| script("python3", ["-c", PYTHON]));
    }
}

#[test]
fn node() {
    let Some(host) = host(&[&format!("tcp:{DUAL_STACK}")]) else { return };
    if require_program("node") {
        serves_both_families(&host, "node", DUAL_STACK, &|| script("node", ["-e", NODE]));
    }
}

/// `status` says why a Go server gets nothing, and what it names as the remedy is one.
#[test]
fn go() {
    let Some(host) = host(&[&format!("tcp:{GO_LISTENS}")]) else { return };
    let dir = TempDir::new().unwrap();
    if !require_feature(has_multipath_tcp(), "CONFIG_MPTCP", (5, 6)) {
        return;
    }
    let Some(server) = build_go(dir.path()) else { return };
    let mut daemon = Daemon::start(dir.path(), Command::new(&server).env_remove("GODEBUG"));
    daemon.wait_listening(Proto::Tcp, GO_LISTENS);
    refused_once(&host, ("server", GO_LISTENS), &daemon);
    daemon.end(Signal::KILL);
    serves_both_families(&host, "go", GO_LISTENS, &|| {
        let mut command = Command::new(&server);
        command.env("GODEBUG", "multipathtcp=0");
        command
    });
    // The same server as it comes, once it is refused multipath TCP: it takes plain TCP by itself.
    let web = ["service", "set", "web", "--no-mptcp"];
    host.fails(&web, "no-mptcp needs a unit, a cgroup or a user");
    host.ok(&[&web[..], &["--listen", &format!("tcp:{GO_LISTENS}"), "--user", "root"]].concat());
    serves_both_families(&host, "go", GO_LISTENS, &|| {
        let mut command = Command::new(&server);
        command.env_remove("GODEBUG");
        command
    });
}

/// The Go server, when there is a Go to build it with.
fn build_go(dir: &Path) -> Option<PathBuf> {
    let found = output(&mut Command::new(SCRIPT_GO)).unwrap();
    if !require(found.status.success(), "Go 1.24 or later (scripts/go fetch)") {
        return None;
    }
    let go = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end());
    fs::write(dir.join("server.go"), GO).unwrap();
    fs::write(dir.join("go.mod"), GO_MODULE).unwrap();
    let mut build = Command::new(go);
    build.args(["build", "-o", "server", "."]).current_dir(dir).env_clear();
    // What it compiled stays for the next time.
    build.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go-cache"));
    build.envs([("GOENV", "off"), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0")]).env("HOME", dir);
    let built = output(&mut build).unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(dir.join("server"))
}

pub(crate) fn has_multipath_tcp() -> bool {
    socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).is_ok()
}

fn listener(dir: &Path, protocol: &str) -> Daemon {
    let mut daemon = Daemon::start(dir, Command::new("python3").args(["-c", LISTENER, protocol]));
    daemon.wait_listening(Proto::Tcp, PYTHON_LISTENS);
    daemon
}

#[track_caller]
fn tells_of_multipath_tcp(text: &str) {
    assert!(text.contains("multipath TCP, which the kernel does not steer"), "{text}");
    for way in ["--no-mptcp", "GODEBUG=multipathtcp=0", "net.mptcp.enabled=0"] {
        assert!(text.contains(way), "{text}");
    }
}

/// `status` says why a listener of multipath TCP gets nothing and what to do; once that is done it is steered to.
#[test]
fn multipath_tcp() {
    let description = format!("tcp:{PYTHON_LISTENS}");
    let Some(host) = host(&[&description]) else { return };
    if !require_program("python3") || !require_feature(has_multipath_tcp(), "CONFIG_MPTCP", (5, 6)) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let daemon = listener(dir.path(), MULTIPATH_TCP);
    refused_once(&host, ("python3", PYTHON_LISTENS), &daemon);
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
    refused_once(&host, ("python3", PYTHON_LISTENS), &daemon);
}

#[track_caller]
fn refused_once(host: &Host, (program, listen): (&str, &str), daemon: &Daemon) {
    crate::wait_until("the refusal", || host.json(&["services"])[0]["refused"].is_object());
    let web = &host.json(&["services"])[0];
    let refused = &web["refused"];
    assert_eq!((refused["count"].as_u64(), refused["local"].as_str()), (Some(1), Some(listen)));
    assert_eq!(refused["pid"].as_u64(), Some(daemon.id().into()));
    let status = host.ok(&["status"]);
    tells_of_multipath_tcp(&status);
    assert!(status.contains(&format!("refused 1, last tcp:{listen} of pid {} ({program}", daemon.id())), "{status}");
    assert!(status.contains(&format!("waiting for tcp:{listen}")), "{status}");
    assert_eq!(dial("192.0.2.7:443"), Answer::Refused);
}
