//! What else in the kernel meets the hook: lookups of tc programs, syncookies, the host's own connections, an earlier
//! program of somebody else.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::SocketAddr;
use std::os::fd::AsFd;

use common::bpf::{Found, attach, choosing, passing, skc_lookup_tcp};
use common::{Receiver, asked, bind, dial, open, patient, snapshot, state, up};
use inlet::Counters;
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::Target;
use inlet_testkit::{TcpServer, World, dial_tcp};

/// `TCP_LISTEN` of include/net/tcp_states.h.
const LISTEN: u8 = 10;

const PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8::/64"];
const TARGETS: [&str; 2] = ["192.0.2.9:80", "[2001:db8::9]:80"];

/// A service `web` on port 80 of both prefixes, with a receiver.
fn steered() -> Option<(World, Receiver)> {
    let world = World::new()?;
    let mut instance = up(&world);
    for prefix in PREFIXES {
        world.local(prefix).unwrap();
        bind(&mut instance, "web", Tcp, prefix, "80");
        bind(&mut instance, "web", Udp, prefix, "80");
    }
    let receiver = Receiver::of(&mut instance, "web");
    drop(instance);
    Some((world, receiver))
}

/// TPROXY fails here: a load balancer in XDP or tc asks who would receive a packet, and must be told the truth.
#[test]
fn a_tc_program_finds_the_steered_listener() {
    let Some((world, receiver)) = steered() else { return };
    let port = receiver.tcp.local_addr().port();
    for (target, remote) in TARGETS.into_iter().zip(["203.0.113.7:4000", "[2001:db8:1::7]:4000"]) {
        let (target, remote): (SocketAddr, SocketAddr) = (target.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(skc_lookup_tcp(target, remote), Some(Found { port, state: LISTEN }), "{target}");
        let other = SocketAddr::new(target.ip(), 81);
        assert_eq!(skc_lookup_tcp(other, remote), None, "{other}");
    }
    open(&world).unregister("web", None).unwrap();
    assert_eq!(skc_lookup_tcp(TARGETS[0].parse().unwrap(), "203.0.113.7:4000".parse().unwrap()), None);
}

/// With syncookies there is no half-open connection: the ACK that ends the handshake is looked up anew, and must meet
/// the listener that sent the cookie.
#[test]
fn handshakes_by_syncookie_complete() {
    let Some((world, _receiver)) = steered() else { return };
    world.sysctl("net/ipv4/tcp_syncookies", "2").unwrap();
    let before = received_cookies();
    for target in TARGETS {
        for _ in 0..20 {
            assert_eq!(asked(Tcp, target), "web", "{target}");
        }
    }
    assert_eq!(received_cookies() - before, 40);
}

/// `TcpExt: SyncookiesRecv` of the namespace.
fn received_cookies() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut rows = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_ascii_whitespace);
    let (mut names, mut values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.position(|name| name == "SyncookiesRecv").unwrap();
    values.nth(at).unwrap().parse().unwrap()
}

/// TPROXY lets these hang: client and service on one host, over AnyIP, the host's own addresses and loopback.
#[test]
fn connections_from_the_host_itself() {
    let Some((world, _receiver)) = steered() else { return };
    world.ip(&["addr", "add", "198.51.100.1/32", "dev", "lo"]).unwrap();
    world.ip(&["addr", "add", "2001:db8:2::1/128", "dev", "lo", "nodad"]).unwrap();
    let mut instance = open(&world);
    for own in ["198.51.100.1", "2001:db8:2::1", "127.0.0.0/8", "::1"] {
        bind(&mut instance, "web", Tcp, own, "80");
        bind(&mut instance, "web", Udp, own, "80");
    }
    drop(instance);
    let targets = ["198.51.100.1:80", "[2001:db8:2::1]:80", "127.0.0.1:80", "127.9.9.9:80", "[::1]:80"];
    for target in targets.into_iter().chain(TARGETS) {
        for protocol in [Tcp, Udp] {
            let answer = dial(protocol, target);
            assert_eq!((answer.name(), answer.local()), (Some("web"), Some(target.parse().unwrap())), "{protocol}");
            let inlet_testkit::Answer::From { sender, .. } = answer else { panic!("{answer:?}") };
            assert_eq!(sender, target.parse::<SocketAddr>().unwrap(), "{protocol}");
        }
    }
}

/// The client's address and the address asked reach the receiver as they are: nothing is rewritten.
#[test]
fn addresses_arrive_as_they_were_sent() {
    let Some((_world, _receiver)) = steered() else { return };
    for (target, source) in TARGETS.into_iter().zip(["192.0.2.200", "2001:db8::200"]) {
        let how = patient().source(source.parse::<std::net::IpAddr>().unwrap()).source_port(40123);
        let inlet_testkit::Answer::From { local, peer, .. } = dial_tcp(target.parse().unwrap(), &how) else { panic!() };
        assert_eq!((local.to_string(), peer), (target.to_owned(), SocketAddr::new(source.parse().unwrap(), 40123)));
    }
}

#[test]
fn the_choice_of_an_earlier_program_stands() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let first = TcpServer::spawn("first", common::anywhere()).unwrap();
    let (program, _map) = choosing(first.as_fd());
    let link = attach(program.as_fd(), world.netns.fd());
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80-81");
    let _receiver = Receiver::of(&mut instance, "web");
    instance.bind(&Target::Refuse, &common::selector(Tcp, "192.0.2.0/24", "81")).unwrap();
    drop(instance);
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "first");
    assert_eq!(asked(Tcp, "192.0.2.9:81"), "first", "also where a rule refuses");
    assert_eq!(snapshot(&world).plain_counters().unwrap(), (0, 0));
    assert_eq!(state(&world, "web").counters, Counters::default(), "what others decided is not counted");
    drop(link);
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
}

/// A program of somebody else that decides nothing changes nothing, before or after Inlet's.
#[test]
fn programs_that_pass_do_not_matter() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let _before = attach(passing().as_fd(), world.netns.fd());
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    let _receiver = Receiver::of(&mut instance, "web");
    drop(instance);
    let _after = attach(passing().as_fd(), world.netns.fd());
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
    assert_eq!(snapshot(&world).services().unwrap()[0].counters, Counters { steered: 1, ..Counters::default() });
}
