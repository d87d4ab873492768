//! What `explain` says of the kernel's ordinary lookup is what the kernel does: every set of exact, wildcard and
//! dual-stack sockets of one port is asked at every address. No rule and no program takes part. Needs root.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::SocketAddr;
use std::os::fd::AsFd;

use common::{dial_with, here, patient, who};
use inlet::Explainer;
use inlet::rules::{Packet, Protocol, Ruleset};
use inlet_testkit::{Listen, TcpServer, UdpServer, World};
use rustix::net::sockopt::socket_cookie;

const BINDS: [&str; 5] = ["192.0.2.1:80", "0.0.0.0:80", "[::]:80", "[2001:db8::1]:80", "127.0.0.1:80"];
const ADDRESSES: [&str; 5] = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80", "[2001:db8::2]:80", "127.0.0.1:80"];

/// A server that keeps its sockets while it lives.
enum Server {
    Tcp(TcpServer),
    Udp(UdpServer),
}

impl Server {
    fn start(protocol: Protocol, bind: &str, v6only: bool) -> Self {
        let (addr, mut how) = (bind.parse::<SocketAddr>().unwrap(), Listen::new().reuseport().freebind());
        if v6only && addr.is_ipv6() {
            how = how.v6only();
        }
        match protocol {
            Protocol::Tcp => Self::Tcp(TcpServer::spawn_with(bind, addr, how).unwrap()),
            Protocol::Udp => Self::Udp(UdpServer::spawn_with(bind, addr, how).unwrap()),
        }
    }

    fn cookie(&self) -> u64 {
        match self {
            Self::Tcp(server) => socket_cookie(server.as_fd()).unwrap(),
            Self::Udp(server) => socket_cookie(server.as_fd()).unwrap(),
        }
    }
}

/// Whom the explainer names for a packet to an address, in the words of a dialer.
fn told(explainer: &Explainer<'_>, servers: &[(&str, Server)], protocol: Protocol, to: SocketAddr) -> String {
    let from = if to.is_ipv4() { "192.0.2.99:999" } else { "[2001:db8::99]:999" };
    let told = explainer.explain(&Packet::new(protocol, to, from.parse().unwrap())).unwrap();
    assert!(told.routing.reach.is_local(), "{to}");
    match told.ordinary.as_slice() {
        [] => "Refused".to_owned(),
        [one] => servers.iter().find(|(_, server)| server.cookie() == one.cookie).unwrap().0.to_owned(),
        several => panic!("{to}: {several:?}"),
    }
}

fn all_sets(protocol: Protocol) {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let (ruleset, location) = (Ruleset::empty(), here(&world));
    for set in 1..1_u32 << BINDS.len() {
        for v6only in [false, true] {
            let chosen = BINDS.iter().enumerate().filter(|(number, _)| set >> number & 1 == 1).map(|(_, bind)| *bind);
            let servers: Vec<(&str, Server)> =
                chosen.map(|bind| (bind, Server::start(protocol, bind, v6only))).collect();
            let explainer = Explainer::under(&ruleset, &location, None).unwrap();
            for to in ADDRESSES.map(|address| address.parse::<SocketAddr>().unwrap()) {
                let asked = who(&dial_with(protocol, to, &patient()));
                let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
                assert_eq!(
                    told(&explainer, &servers, protocol, to),
                    asked,
                    "{protocol} {to} of {names:?}, v6only {v6only}"
                );
            }
        }
    }
}

/// One after the other: a program that one test starts has the sockets of the other one, too, until it runs, and what
/// was dropped meanwhile would still be there.
#[test]
fn tcp_and_udp() {
    all_sets(Protocol::Tcp);
    all_sets(Protocol::Udp);
}
