//! Sockets come and go: what a service receives with, what is refused and why, and that no connection is lost while
//! one of many leaves.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::thread;

use common::{
    Receiver, Running, anywhere, asked, bind, dial, here, open, patient, snapshot, state, told, up, wait_for_sockets,
    who,
};
use inlet::rules::Protocol::{self, Tcp, Udp};
use inlet::{Adopted, Counters, Error, Instance, ServiceRequest, SocketError, UpOptions};
use inlet_testkit::{Listen, Netns, TcpServer, UdpServer, World, dial_tcp, dial_udp, require_feature};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

const V4: &str = "192.0.2.9:80";
const V6: &str = "[2001:db8::9]:80";

/// A service `web` on port 80 of a prefix of each family, for both protocols.
fn bound() -> Option<(World, Instance)> {
    let world = World::new()?;
    let mut instance = up(&world);
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        world.local(prefix).unwrap();
        bind(&mut instance, "web", Tcp, prefix, "80");
        bind(&mut instance, "web", Udp, prefix, "80");
    }
    Some((world, instance))
}

#[test]
fn closing_empties_the_slot_and_a_restart_takes_its_place() {
    let Some((world, instance)) = bound() else { return };
    drop(instance);
    let mut cookies = Vec::new();
    // More restarts than a service has room for: a closed socket keeps no place.
    for restart in 0..70 {
        let receiver = Receiver::of(&mut open(&world), "web");
        let sockets = state(&world, "web").sockets;
        assert_eq!(sockets.len(), 2, "restart {restart}");
        assert!(sockets.iter().all(|socket| socket.receiving && socket.v4 && socket.v6));
        assert!(sockets.iter().all(|socket| !cookies.contains(&socket.cookie)));
        cookies.extend(sockets.iter().map(|socket| socket.cookie));
        for (protocol, target) in [(Tcp, V4), (Udp, V4), (Tcp, V6), (Udp, V6)] {
            assert_eq!(asked(protocol, target), "web", "restart {restart}");
        }
        drop(receiver);
        wait_for_sockets(&world, "web", 0);
        assert_eq!(asked(Tcp, V4), "Refused");
        assert_eq!(asked(Udp, V6), "Refused");
    }
    // Segments that come after their connection is gone run the program too, so TCP may count a few more.
    let Counters { steered, missed, failed, refused } = state(&world, "web").counters;
    assert!((280..300).contains(&steered) && (140..160).contains(&missed), "{steered} {missed}");
    assert_eq!((failed, refused), (0, missed));
}

/// The places of closed sockets are for any kind of socket, and for any service, when no other is left.
#[test]
fn places_of_closed_sockets_are_not_lost() {
    let Some(world) = World::new() else { return };
    let mut instance = Instance::up(here(&world), &UpOptions { max_sockets: 64, ..UpOptions::default() }).unwrap();
    for name in ["web", "other"] {
        instance.set_service(&name.parse().unwrap(), ServiceRequest::default()).unwrap();
    }
    let v4 = many(&mut instance, "web", 64, "127.0.0.1:0");
    drop(v4);
    let dual = many(&mut instance, "web", 64, "[::]:0");
    drop(dual);
    let other = many(&mut instance, "other", 64, "[::1]:0");
    drop(instance);
    assert_eq!((state(&world, "web").sockets.len(), state(&world, "other").sockets.len()), (0, 64));
    drop(other);
}

fn many(instance: &mut Instance, service: &str, count: usize, addr: &str) -> Vec<TcpServer> {
    let server = |_| {
        let server = TcpServer::spawn(service, addr.parse().unwrap()).unwrap();
        instance.register(service, &server).unwrap();
        server
    };
    (0..count).map(server).collect()
}

#[test]
fn families_that_a_socket_serves() {
    let Some((world, instance)) = bound() else { return };
    drop(instance);
    // Where it is bound, v6only or not, and who answers over IPv4 and IPv6.
    let cases = [
        ("0.0.0.0:0", false, ["web", "Refused"]),
        ("127.0.0.1:0", false, ["web", "Refused"]),
        ("[::]:0", false, ["web", "web"]),
        ("[::]:0", true, ["Refused", "web"]),
        ("[::1]:0", false, ["Refused", "web"]),
        ("[::ffff:127.0.0.1]:0", false, ["web", "Refused"]),
    ];
    for (addr, v6only, expected) in cases {
        let how = if v6only { Listen::new().v6only() } else { Listen::new() };
        let addr: SocketAddr = addr.parse().unwrap();
        let tcp = TcpServer::spawn_with("web", addr, how).unwrap();
        let udp = UdpServer::spawn_with("web", addr, how).unwrap();
        let mut instance = open(&world);
        instance.register("web", &tcp).unwrap();
        instance.register("web", &udp).unwrap();
        drop(instance);
        for protocol in [Tcp, Udp] {
            assert_eq!([V4, V6].map(|target| asked(protocol, target)), expected, "{protocol} {addr} {v6only}");
        }
        for socket in state(&world, "web").sockets {
            let served = [socket.v4, socket.v6].map(|serves| if serves { "web" } else { "Refused" });
            assert_eq!(served, expected, "{addr} {v6only}");
        }
    }
    assert_eq!(state(&world, "web").counters.failed, 0);
}

/// Opens so many flows, each from a port of its own, and says who answered each.
fn flows(protocol: Protocol, target: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| who(&dial(protocol, target))).collect()
}

#[test]
fn a_worker_of_a_reuseport_group_exits() {
    let Some((world, mut instance)) = bound() else { return };
    let mut tcp = TcpServer::spawn_with("web", anywhere(), Listen::new().workers(4)).unwrap();
    let mut udp = UdpServer::spawn_with("web", anywhere(), Listen::new().workers(4)).unwrap();
    for socket in tcp.sockets().chain(udp.sockets()) {
        instance.register("web", socket).unwrap();
    }
    drop(instance);
    for left in (1..=4).rev() {
        wait_for_sockets(&world, "web", 2 * left);
        for (protocol, target) in [(Tcp, V4), (Tcp, V6), (Udp, V4), (Udp, V6)] {
            let told = flows(protocol, target, 50);
            assert!(told.iter().all(|who| who == "web"), "{left} workers, {protocol} {target}: {told:?}");
        }
        assert_eq!(tcp.served_each().len(), left);
        tcp.stop_one();
        udp.stop_one();
    }
    assert!(tcp.served() > 0 && udp.served() > 0);
    let counters = state(&world, "web").counters;
    assert_eq!((counters.missed, counters.failed), (0, 0));
}

#[test]
fn a_hundred_sockets_share_and_one_may_leave() {
    for protocol in [Tcp, Udp] {
        let Some((world, mut instance)) = bound() else { return };
        let name = |number: usize| format!("web{number}");
        let mut servers: Vec<(Option<TcpServer>, Option<UdpServer>)> = Vec::new();
        for number in 0..100 {
            let (tcp, udp) = match protocol {
                Tcp => (Some(TcpServer::spawn(&name(number), anywhere()).unwrap()), None),
                Udp => (None, Some(UdpServer::spawn(&name(number), anywhere()).unwrap())),
            };
            match (&tcp, &udp) {
                (Some(tcp), _) => drop(instance.register("web", tcp).unwrap()),
                (_, udp) => drop(instance.register("web", udp.as_ref().unwrap()).unwrap()),
            }
            servers.push((tcp, udp));
        }
        drop(instance);
        assert_eq!(state(&world, "web").sockets.len(), 100);

        // Ports in a row, as a client uses them: every socket gets some.
        let told = |ports: std::ops::Range<u16>| -> Vec<String> {
            ports
                .map(|port| {
                    let how = patient().source_port(port);
                    let answer = match protocol {
                        Tcp => dial_tcp(V4.parse().unwrap(), &how),
                        Udp => dial_udp(V6.parse().unwrap(), &how),
                    };
                    who(&answer)
                })
                .collect()
        };
        let all = told(20000..21500);
        let missed: Vec<String> = (0..100).map(name).filter(|name| !all.contains(name)).collect();
        assert!(missed.is_empty(), "{protocol}: {missed:?} got none of 1500 flows");
        assert!(all.iter().all(|who| who.starts_with("web")), "{protocol}");

        // The flows of the one that leaves go to others; those of the others stay where they were.
        servers.remove(17);
        wait_for_sockets(&world, "web", 99);
        let after = told(20000..21500);
        for (before, after) in all.iter().zip(&after) {
            match before.as_str() {
                "web17" => assert!(after.starts_with("web") && after != "web17", "{after}"),
                _ => assert_eq!(before, after),
            }
        }
        assert_eq!(state(&world, "web").counters.missed, 0);
    }
}

/// A socket that comes takes its share of the flows at once, and none is lost on the way.
#[test]
fn no_flow_is_lost_while_sockets_come() {
    let Some((world, mut instance)) = bound() else { return };
    let _first = Receiver::of(&mut instance, "web");
    instance.set_service(&"other".parse().unwrap(), ServiceRequest::default()).unwrap();
    let coming = Running::new();
    thread::scope(|scope| {
        let _until_the_end = coming.guard();
        for (protocol, target) in [(Tcp, V4), (Udp, V6)] {
            let coming = &coming;
            scope.spawn(move || {
                while coming.goes_on() {
                    assert_eq!(asked(protocol, target), "web", "{protocol}");
                }
            });
        }
        // Between them the sockets of another service, so that lanes cannot grow where they are and have to move.
        let two = |_| ["web", "other"].map(|service| Receiver::of(&mut instance, service));
        (0..150).map(two).collect::<Vec<_>>()
    });
    drop(instance);
    let counters = state(&world, "web").counters;
    assert_eq!((counters.missed, counters.failed), (0, 0));
}

/// What a socket that cannot be adopted is refused with.
fn refusal(instance: &mut Instance, socket: impl AsFd) -> String {
    let before = snapshot_of(instance);
    let error = instance.register("web", socket).unwrap_err();
    let Error::Socket(SocketError::NoSocket { refused, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((snapshot_of(instance), refused.len()), (before, 1));
    let fix = refused[0].reason.remedy().map(|fix| format!("\nfix: {fix}"));
    assert_eq!(error.remedy().as_deref(), refused[0].reason.remedy(), "the error advises the same");
    format!("{}{}", refused[0], fix.unwrap_or_default())
}

fn snapshot_of(instance: &Instance) -> (u64, usize) {
    (instance.generation(), instance.ruleset().unwrap().len())
}

#[test]
fn each_refused_socket_is_named_with_its_reason() {
    let Some((world, mut instance)) = bound() else { return };
    let not_listening = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&not_listening, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect("127.0.0.1:9").unwrap();
    let unbound = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
    let dir = std::env::temp_dir().join(format!("inlet-{}-unix", std::process::id()));
    let unix = UnixListener::bind(&dir).unwrap();
    std::fs::remove_file(&dir).unwrap();
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let elsewhere = Netns::unentered().unwrap().enter(|| TcpListener::bind("127.0.0.1:0").unwrap());

    let addr = |socket: &dyn Fn() -> SocketAddr| socket().to_string();
    let cases: [(OwnedFd, &str, Option<String>); 9] = [
        (not_listening, "not listening", None),
        (connected.try_clone().unwrap().into(), "connected", Some(addr(&|| connected.local_addr().unwrap()))),
        (unbound, "not bound to a port", None),
        (unix.into(), "a unix socket", None),
        (raw, "a raw socket", None),
        (netlink, "a raw socket", None),
        (file.into(), "not a socket", None),
        (client.into(), "connected", None),
        (
            elsewhere.try_clone().unwrap().into(),
            "of another network namespace\nfix: name that one with --netns; or narrow the description by unit, cgroup or user",
            Some(addr(&|| elsewhere.local_addr().unwrap())),
        ),
    ];
    for (socket, reason, named) in cases {
        let text = refusal(&mut instance, &socket);
        assert!(text.ends_with(&format!(": {reason}")), "{text}");
        assert!(named.is_none_or(|named| text.contains(&named)), "{text}");
    }
    drop(instance);
    assert!(state(&world, "web").sockets.is_empty());
}

#[test]
fn multipath_tcp_is_refused_with_the_remedy() {
    let Some((_world, mut instance)) = bound() else { return };
    let mptcp = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
    if !require_feature(mptcp.is_ok(), "multipath TCP", (5, 6)) {
        return;
    }
    let mptcp = mptcp.unwrap();
    rustix::net::bind(&mptcp, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&mptcp, 8).unwrap();
    let text = refusal(&mut instance, &mptcp);
    assert!(text.contains("multipath TCP") && text.contains("GODEBUG=multipathtcp=0"), "{text}");
}

#[test]
fn a_socket_serves_one_service_and_once() {
    let Some((world, mut instance)) = bound() else { return };
    instance.set_service(&"other".parse().unwrap(), ServiceRequest::default()).unwrap();
    let receiver = Receiver::new("web");
    let first = instance.register("web", &receiver.tcp).unwrap();
    assert!(first.adopted == Adopted::Now);
    let again = instance.register("web", &receiver.tcp).unwrap();
    assert!(again.adopted == Adopted::Before && again.cookie == first.cookie);
    let error = instance.register("other", &receiver.tcp).unwrap_err();
    let addr = format!("tcp:[::]:{}", receiver.tcp.local_addr().port());
    assert_eq!(told(&error), format!("socket {addr} serves \"web\" already\nfix: inlet unregister web"));
    assert!(matches!(instance.register("none", &receiver.tcp), Err(Error::UnknownService(_))));
    drop(instance);
    assert_eq!((state(&world, "web").sockets.len(), state(&world, "other").sockets.len()), (1, 0));
    // The step that the message names.
    let mut instance = open(&world);
    assert_eq!(instance.unregister("web", None).unwrap(), 1);
    instance.register("other", &receiver.tcp).unwrap();
    drop(instance);
    assert_eq!((state(&world, "web").sockets.len(), state(&world, "other").sockets.len()), (0, 1));
    assert_eq!(asked(Tcp, V4), "Refused");
}

#[test]
fn as_many_sockets_as_the_instance_was_made_for() {
    let Some(world) = World::new() else { return };
    let options = |max_sockets| UpOptions { max_sockets, ..UpOptions::default() };
    for wrong in [0, UpOptions::MAX_SOCKETS + 1] {
        let error = Instance::up(here(&world), &options(wrong)).unwrap_err();
        assert_eq!(told(&error), format!("--max-sockets {wrong} is out of range\nfix: give 1 to 1048576"));
    }
    let mut instance = Instance::up(here(&world), &options(2)).unwrap();
    instance.set_service(&"web".parse().unwrap(), ServiceRequest::default()).unwrap();
    let (one, two) = (Receiver::of(&mut instance, "web"), Receiver::new("web"));
    let error = instance.register("web", &two.tcp).unwrap_err();
    assert_eq!(
        told(&error),
        "the instance is full: it has room for 2 sockets of each family\nfix: unregister some; or begin anew with room for more: inlet down, inlet up --max-sockets N"
    );
    drop(instance);
    assert_eq!(snapshot(&world).max_sockets(), 2);
    assert_eq!(state(&world, "web").sockets.len(), 2);
    drop(one);
    wait_for_sockets(&world, "web", 0);
    let mut instance = open(&world);
    instance.register("web", &two.tcp).unwrap();
    instance.register("web", &two.udp).unwrap();
}

/// Sockets stay when a service's rules go, and go with the service.
#[test]
fn removing_a_service_lets_its_sockets_go() {
    let Some((world, mut instance)) = bound() else { return };
    let receiver = Receiver::of(&mut instance, "web");
    let error = instance.remove_service("web").unwrap_err();
    assert_eq!(told(&error), "service web has 4 rules\nfix: unbind them first (list them with: inlet rules)");
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        for protocol in [Tcp, Udp] {
            instance.unbind(&common::selector(protocol, prefix, "80")).unwrap();
        }
    }
    drop(instance);
    assert_eq!(state(&world, "web").sockets.len(), 2);
    let mut instance = open(&world);
    instance.remove_service("web").unwrap();
    // The next service may have its number, but nothing else of it.
    bind(&mut instance, "next", Tcp, "192.0.2.0/24", "80");
    drop(instance);
    assert!(state(&world, "next").sockets.is_empty());
    assert_eq!(asked(Tcp, V4), "Refused");
    open(&world).register("next", &receiver.tcp).unwrap();
    assert_eq!(asked(Tcp, V4), "web");
}
