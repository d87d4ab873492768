//! Servers of five lines, and socat.

use std::process::Command;

use inlet_testkit::require_program;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{EXCHANGES, Kind, Server, Surroundings, Targets, V4, V6, exchange};
use crate::wait_for_sockets;

const PYTHON: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 5300))
while True:
    text, client = server.recvfrom(65536)
    server.sendto(text, client)
"#;

const NODE: &str = r#"
const server = require("dgram").createSocket(process.argv[1].includes(":") ? "udp6" : "udp4");
server.on("message", (text, client) => server.send(text, client.port, client.address));
server.bind(5300, process.argv[1]);
"#;

/// What a server is bound to, and the targets that reach it.
const BOUND: [(&str, Targets); 4] = [("127.0.0.1", &[V4]), ("0.0.0.0", &[V4]), ("::1", &[V6]), ("::", &[V4, V6])];

const ECHO: Kind = Kind {
    question: |number| number.to_string().into_bytes(),
    check: |text, answer, about| assert_eq!(text, answer, "{about}"),
    exchanges: EXCHANGES,
};

fn echoes(program: &str, args: impl Fn(&str) -> Vec<String>) {
    let Some(surroundings) = Surroundings::new() else { return };
    if !require_program(program) {
        return;
    }
    for (bound, targets) in BOUND {
        let server = Server { bound, targets, sockets: 1 };
        surroundings.answers(ECHO, &server, |_| {
            let mut command = Command::new(program);
            command.args(args(bound));
            command
        });
    }
}

#[test]
fn python() {
    echoes("python3", |bound| ["-c", PYTHON, bound].map(str::to_owned).into());
}

#[test]
fn node() {
    echoes("node", |bound| ["-e", NODE, bound].map(str::to_owned).into());
}

/// It answers one datagram and ends. With `fork` it would go on, but under load it hangs by itself, without Inlet too.
#[test]
fn socat() {
    let Some(surroundings) = Surroundings::new() else { return };
    if !require_program("socat") {
        return;
    }
    let once = Kind { exchanges: 1, ..ECHO };
    for (bound, targets) in BOUND {
        let server = Server { bound, targets, sockets: 1 };
        let listen = match bound.contains(':') {
            true => format!("UDP6-RECVFROM:5300,bind=[{bound}]"),
            false => format!("UDP4-RECVFROM:5300,bind={bound}"),
        };
        for target in server.targets() {
            for is_outside in [false, true] {
                let dir = TempDir::new().unwrap();
                let daemon = surroundings.start(&dir, &server, Command::new("socat").args([&listen, "EXEC:cat"]));
                match is_outside {
                    true => surroundings.outside.enter(|| exchange(once, target, &daemon)),
                    false => exchange(once, target, &daemon),
                }
                daemon.end(Signal::KILL);
                wait_for_sockets(&surroundings.host, 0);
            }
        }
    }
}
