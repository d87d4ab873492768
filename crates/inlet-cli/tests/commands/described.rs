//! Services that find their sockets by a description.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use inlet_testkit::{Dial, Program, Proto, dial_tcp};
use rustix::process::Signal;

use crate::{Host, LONG, at};

const SOCAT: [&str; 3] = ["socat", "TCP-LISTEN:18090,bind=127.0.0.1,fork,reuseaddr", "SYSTEM:echo found"];

fn run(host: &Host, args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
    command.arg("--bpffs").arg(host.world.bpffs.path()).args(args);
    Program::start(&mut command).unwrap()
}

#[test]
fn a_command_has_its_sockets_while_it_runs() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    for listen in [&["--listen", "tcp:127.0.0.1:18090"][..], &[]] {
        let mut ran = run(&host, &[&["run", "web"], listen, &["--"], &SOCAT].concat());
        ran.wait_listening(Proto::Tcp, at("127.0.0.1:18090"), LONG).unwrap_or_else(|error| panic!("{error}"));
        let mut answer = String::new();
        // The kernel lists a listener a moment before its listen() returns.
        let until = Instant::now() + LONG;
        let mut client = loop {
            match TcpStream::connect("192.0.2.9:4711") {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < until, "{error}: {}", host.ok(&["status"])),
            }
        };
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "found\n", "{listen:?}");
        let described = &host.json(&["services"])[0]["described"];
        let meant = listen.last().copied().unwrap_or("tcp:*:*");
        assert_eq!(described["listen"][0], meant);
        assert!(described["cgroup"].as_str().unwrap().contains("/inlet-run-"));
        // The signal goes on to the command, and its end is the end of both.
        ran.signal(Signal::TERM).unwrap();
        assert_eq!(ran.wait_exit(LONG).unwrap().unwrap().code(), Some(128 + 15), "{listen:?}");
        assert!(host.json(&["services"])[0]["described"].is_null(), "{listen:?}");
    }
    let mut ran = run(&host, &["run", "web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(ran.wait_exit(LONG).unwrap().unwrap().code(), Some(7));
    let mut ran = run(&host, &["run", "web", "--", "no-such-command"]);
    assert_eq!(ran.wait_exit(LONG).unwrap().unwrap().code(), Some(1));
    assert!(host.json(&["services"])[0]["described"].is_null());
}

#[test]
fn bind_to_an_address_describes_a_service() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let said = host.ok(&["bind", "--to", "tcp:127.0.0.1:18091", "tcp", "192.0.2.0/24", "80"]);
    assert!(said.contains("+ tcp 192.0.2.0/24 80 -> tcp:127.0.0.1:18091"), "{said}");
    let status = host.ok(&["status"]);
    assert!(status.contains("waiting for tcp:127.0.0.1:18091"), "{status}");
    let _server = inlet_testkit::TcpServer::spawn("web", at("127.0.0.1:18091")).unwrap();
    assert_eq!(dial_tcp(at("192.0.2.9:80"), &Dial::new().timeout(LONG)).local(), Some(at("192.0.2.9:80")));
    assert!(!host.ok(&["status"]).contains("waiting"));
    assert!(host.ok(&["adopt"]).contains("known"));
    host.fails(
        &["service", "set", "other", "--listen", "tcp:*:18091"],
        "services other and tcp:127.0.0.1:18091 could both claim a socket at tcp:127.0.0.1:18091",
    );
}
