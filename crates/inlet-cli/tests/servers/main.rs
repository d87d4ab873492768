//! Real servers, none of them changed, that the real command steers to by a description: through reloads, restarts and
//! kills of their own and of the command. Each test has a network namespace, a bpf filesystem and control groups of its
//! own. Needs root.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "figures, which the test harness shows on demand")]

mod answers;
mod clients;
mod conf;
mod daemon;
mod dns;
mod drain;
mod exchanges;
mod haproxy;
#[path = "../common/host.rs"]
mod host;
mod killed;
mod languages;
mod nginx;
mod own;
mod plain;
mod quic;
mod recursive;
mod redis;
mod side_by_side;
mod units;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use inlet_testkit::{End, Namespace, veth};

pub(crate) use host::{Host, PATIENCE, at};

/// Between two looks at what no event tells.
const INTERVAL: Duration = Duration::from_millis(3);

/// Where servers listen that get their packets by Inlet.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";

/// A host on which every TCP port of 192.0.2.0/24 and of 2001:db8::/64 goes to the service `web`, described like this.
pub(crate) fn host(listen: &[&str]) -> Option<Host> {
    let host = Host::up()?;
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        host.world.local(prefix).unwrap();
        host.ok(&["bind", "web", "tcp", prefix, "any"]);
    }
    describe(&host, listen);
    Some(host)
}

/// Makes a prefix of each family local to a host, and a place elsewhere that reaches them over a veth pair.
pub(crate) fn outside(host: &Host, prefixes: [&str; 2]) -> Namespace {
    let outside = Namespace::new().unwrap();
    let [inner, outer] = [["10.9.0.1/24", "2001:db8:9::1/64"], ["10.9.0.2/24", "2001:db8:9::2/64"]];
    let end = |namespace, addresses| End { namespace, name: "veth0", addresses };
    veth(end(&host.world, &inner), end(&outside, &outer)).unwrap();
    for (prefix, via) in prefixes.iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        host.world.local(prefix).unwrap();
        outside.ip(&["route", "add", prefix, "via", via]).unwrap();
    }
    outside
}

/// Receives a datagram. Whatever stops this process for a moment interrupts a call that has a time-out.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            got => return got,
        }
    }
}

/// Describes the service `web`.
pub(crate) fn describe(host: &Host, listen: &[&str]) {
    let listen = listen.iter().flat_map(|listen| ["--listen", *listen]);
    host.ok(&["service", "set", "web"].into_iter().chain(listen).collect::<Vec<_>>());
}

/// Waits for a state of which no event tells.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "never came: {what}");
        thread::sleep(INTERVAL);
    }
}

/// The sockets of the service `web`.
pub(crate) fn sockets(host: &Host) -> usize {
    let services = host.json(&["services"]);
    let web = services.as_array().unwrap().iter().find(|service| service["name"] == "web").unwrap();
    web["sockets"].as_array().unwrap().len()
}

/// Waits until the service `web` has so many sockets.
#[track_caller]
pub(crate) fn wait_for_sockets(host: &Host, count: usize) {
    wait_until(&format!("{count} sockets of web"), || sockets(host) == count);
}
