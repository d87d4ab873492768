//! What is told of services over UDP: flows that ask elsewhere than before.

use std::net::UdpSocket;

use serde_json::json;

use crate::{Host, LONG, at};

fn socket(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
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
