//! What a service has is what receives: sockets that share an address with those of others (SO_REUSEPORT), that are
//! bound to a device, and that are many. Who received is counted at the servers.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use common::{asked, bind, here, open, snapshot, state, up, wait_for_sockets};
use inlet::rules::Description;
use inlet::rules::Protocol::{self, Tcp, Udp};
use inlet::{Adopted, Endpoint, Error, Instance, ServiceRequest, SocketError, UpOptions};
use inlet_testkit::{End, Listen, TcpServer, UdpServer, World, rounds, veth};
use rustix::net::{AddressFamily, SocketType, socket, sockopt};

const V4: [&str; 2] = ["192.0.2.9:80", "198.51.100.9:80"];
const V6: [&str; 2] = ["[2001:db8:1::9]:80", "[2001:db8:2::9]:80"];

/// Services `one` and `two`, each with port 80 of a prefix of each family, for both protocols.
fn two_services() -> Option<(World, Instance)> {
    let world = World::new()?;
    let mut instance = up(&world);
    for (service, prefixes) in
        [("one", ["192.0.2.0/24", "2001:db8:1::/48"]), ("two", ["198.51.100.0/24", "2001:db8:2::/48"])]
    {
        for prefix in prefixes {
            world.local(prefix).unwrap();
            bind(&mut instance, service, Tcp, prefix, "80");
            bind(&mut instance, service, Udp, prefix, "80");
        }
    }
    Some((world, instance))
}

fn describe(instance: &mut Instance, service: &str, listen: &[&str]) {
    let description = Description::new(listen.iter().map(|text| text.parse().unwrap())).unwrap();
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(&service.parse().unwrap(), request).unwrap();
}

/// Everybody is asked often enough that a choice by the kernel among two would show.
fn everybody_gets_their_own() {
    for (protocol, targets) in [(Tcp, V4), (Udp, V4), (Tcp, V6), (Udp, V6)] {
        for _ in 0..40 {
            assert_eq!(targets.map(|target| asked(protocol, target)), ["one", "two"], "{protocol} {targets:?}");
        }
    }
}

#[test]
fn two_services_in_one_reuseport_group_are_kept_apart() {
    let Some((_world, mut instance)) = two_services() else { return };
    let at: SocketAddr = "[::]:7000".parse().unwrap();
    let group = Listen::new().reuseport();
    let servers = ["one", "two"].map(|name| {
        let tcp = TcpServer::spawn_with(name, at, group).unwrap();
        let udp = UdpServer::spawn_with(name, at, group).unwrap();
        instance.register(name, &tcp).unwrap();
        instance.register(name, &udp).unwrap();
        (tcp, udp)
    });
    drop(instance);
    everybody_gets_their_own();
    let served = servers.each_ref().map(|(tcp, udp)| (tcp.served(), udp.served()));
    assert_eq!(served, [(80, 80); 2]);
}

#[test]
fn a_socket_of_the_group_that_was_taken_out_gets_nothing_new() {
    let Some((world, mut instance)) = two_services() else { return };
    let group = Listen::new().workers(2);
    let tcp = TcpServer::spawn_with("one", "[::]:0".parse().unwrap(), group).unwrap();
    for worker in tcp.sockets() {
        instance.register("one", worker).unwrap();
    }
    let first = tcp.sockets().next().unwrap();
    let cookie = rustix::net::sockopt::socket_cookie(first).unwrap();
    assert_eq!(instance.unregister("one", None).unwrap(), 2);
    instance.register("one", first).unwrap();
    drop(instance);
    let left = state(&world, "one").sockets;
    assert_eq!(left.iter().map(|socket| socket.cookie).collect::<Vec<_>>(), [cookie]);
    for target in [V4[0], V6[0]] {
        (0..50).for_each(|_| assert_eq!(asked(Tcp, target), "one"));
    }
    assert_eq!(tcp.served_each(), [100, 0]);
}

/// More workers than a service once could have.
#[test]
fn eighty_workers_find_their_service_inside_listen() {
    let Some((world, mut instance)) = two_services() else { return };
    describe(&mut instance, "one", &["tcp:*:18081"]);
    drop(instance);
    let tcp = TcpServer::spawn_with("one", "[::]:18081".parse().unwrap(), Listen::new().workers(80)).unwrap();
    let service = state(&world, "one");
    assert_eq!((service.sockets.len(), service.refusal), (80, None));
    let found = open(&world).adopt().unwrap();
    assert_eq!(found.len(), 80);
    assert!(found.iter().all(|found| found.outcome == Ok(Adopted::Before)), "{found:?}");
    for target in [V4[0], V6[0]] {
        (0..500).for_each(|_| assert_eq!(asked(Tcp, target), "one"));
    }
    let served = tcp.served_each();
    assert!(served.iter().filter(|served| **served > 0).count() > 75, "{served:?}");
}

/// Listeners of a SO_REUSEPORT group of this process.
fn listeners(count: usize) -> (Vec<TcpListener>, Endpoint) {
    let mut at: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = |_| {
        let socket: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &at).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let listener = TcpListener::from(socket);
        at = listener.local_addr().unwrap();
        listener
    };
    let listeners = (0..count).map(listener).collect();
    (listeners, Endpoint::new(Tcp, at))
}

#[test]
fn a_service_has_up_to_4096_sockets_of_a_kind() {
    let Some(world) = World::new() else { return };
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(files);
    rustix::process::setrlimit(files, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut instance = up(&world);
    instance.set_service(&"web".parse().unwrap(), ServiceRequest::default()).unwrap();
    let (kept, endpoint) = listeners(4096);
    let adoption = instance.register_process("web", std::process::id(), &[endpoint]).unwrap();
    assert_eq!(adoption.adopted.len(), 4096);
    let more = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = instance.register("web", &more).unwrap_err();
    assert!(matches!(error, Error::Socket(SocketError::LaneFull { max: 4096, .. })), "{error:?}");
    assert!(error.to_string().starts_with("service \"web\" has 4096 IPv4 tcp sockets"), "{error}");
    drop((instance, kept));
    wait_for_sockets(&world, "web", 0);
    let mut instance = open(&world);
    instance.register("web", &more).unwrap();
}

/// A small instance: what lanes do not use is taken from them, and they move, before anything is refused.
#[test]
fn room_is_found_where_lanes_do_not_use_theirs() {
    let Some(world) = World::new() else { return };
    let mut instance = Instance::up(here(&world), &UpOptions { max_sockets: 100, ..UpOptions::default() }).unwrap();
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    for name in &names {
        instance.set_service(&name.as_str().parse().unwrap(), ServiceRequest::default()).unwrap();
    }
    let count = || snapshot(&world).services().unwrap().iter().map(|it| it.sockets.len()).sum::<usize>();
    let wait_for = |left: usize| {
        while count() > left {
            std::thread::yield_now();
        }
    };
    for round in 0..3 {
        let (mut kept, mut gone, mut taken) = (Vec::new(), Vec::new(), 0);
        let full = names.iter().cycle().find_map(|name| {
            let (mut all, endpoint) = listeners(20);
            let error = instance.register_process(name, std::process::id(), &[endpoint]).err();
            taken += if error.is_none() { all.len() } else { 0 };
            kept.extend(all.pop().filter(|_| error.is_none()));
            gone.push(all);
            error
        });
        assert!(matches!(full, Some(Error::Socket(SocketError::TooManySockets(100)))), "round {round}: {full:?}");
        assert_eq!(taken, 100, "round {round}");
        drop((gone, instance));
        wait_for(kept.len());
        instance = open(&world);
        // Nothing is left of those that closed.
        let (many, endpoint) = listeners(90);
        instance.register_process("s0", std::process::id(), &[endpoint]).unwrap();
        drop((kept, many, instance));
        wait_for(0);
        instance = open(&world);
    }
}

/// Two interfaces, a server bound to each and one bound to none, all of one service.
#[test]
fn a_socket_bound_to_a_device_gets_what_comes_in_there() {
    let Some((world, instance)) = two_services() else { return };
    let here_side = inlet_testkit::Namespace::current().unwrap();
    // Every refusal is to be told, not six a second.
    for limit in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
        world.netns.sysctl(limit, "0").unwrap();
    }
    let others = ["a", "b"].map(|_| inlet_testkit::Netns::unentered().unwrap());
    for (number, other) in others.iter().enumerate() {
        let names = [["in-a", "in-b"][number], "out"];
        let own = [format!("10.9.{number}.1/24"), format!("2001:db8:9{number}::1/64")];
        let theirs = [format!("10.9.{number}.2/24"), format!("2001:db8:9{number}::2/64")];
        let (own, theirs) = (own.each_ref().map(String::as_str), theirs.each_ref().map(String::as_str));
        veth(
            End { namespace: &here_side, name: names[0], addresses: &own },
            End { namespace: other, name: names[1], addresses: &theirs },
        )
        .unwrap();
        other.ip(&["route", "add", "192.0.2.0/24", "via", &format!("10.9.{number}.1")]).unwrap();
        other.ip(&["-6", "route", "add", "2001:db8:1::/48", "via", &format!("2001:db8:9{number}::1")]).unwrap();
    }
    let server = |name: &'static str, device: Option<&'static str>| {
        let how = device.map_or(Listen::new(), |device| Listen::new().device(device));
        let tcp = TcpServer::spawn_with(name, "[::]:0".parse().unwrap(), how).unwrap();
        let udp = UdpServer::spawn_with(name, "[::]:0".parse().unwrap(), how).unwrap();
        (tcp, udp)
    };
    let register = |server: &(TcpServer, UdpServer)| {
        let mut instance = open(&world);
        instance.register("one", &server.0).unwrap();
        instance.register("one", &server.1).unwrap();
    };
    drop(instance);
    let ask = |from: usize, protocol: Protocol, target: &str| others[from].enter(|| asked(protocol, target));
    let all = [(Tcp, V4[0]), (Udp, V4[0]), (Tcp, V6[0]), (Udp, V6[0])];
    let a = server("a", Some("in-a"));
    register(&a);
    for (protocol, target) in all {
        for _ in 0..10 {
            assert_eq!([ask(0, protocol, target), ask(1, protocol, target)], ["a", "Refused"], "{protocol} {target}");
        }
    }
    let b = server("b", Some("in-b"));
    register(&b);
    for (protocol, target) in all {
        for _ in 0..10 {
            assert_eq!([ask(0, protocol, target), ask(1, protocol, target)], ["a", "b"], "{protocol} {target}");
        }
    }
    let anywhere = server("any", None);
    register(&anywhere);
    drop(a);
    wait_for_sockets(&world, "one", 4);
    for (protocol, target) in all {
        for _ in 0..10 {
            assert_eq!(ask(0, protocol, target), "any", "{protocol} {target}");
            assert!(["b", "any"].contains(&ask(1, protocol, target).as_str()), "{protocol} {target}");
            assert_eq!(asked(protocol, target), "any", "over lo: {protocol} {target}");
        }
    }
}

/// A listener comes while its service goes and another one gets the number: it never is the other one's. Packets of the
/// other service are asked for all the while.
#[test]
fn a_listener_that_comes_while_its_service_goes_is_nobody_elses() {
    let Some((world, instance)) = two_services() else { return };
    drop(instance);
    let comes = common::Running::new();
    std::thread::scope(|scope| {
        let _until_the_end = comes.guard();
        scope.spawn(|| {
            while comes.goes_on() {
                drop(TcpServer::spawn("astray", "127.0.0.1:18082".parse().unwrap()));
            }
        });
        for round in 0..rounds(60, 6) {
            let mut instance = open(&world);
            let gone = format!("gone{round}");
            describe(&mut instance, &gone, &["tcp:127.0.0.1:18082"]);
            instance.remove_service(&gone).unwrap();
            // One more commit, and numbers that were in use may be given again.
            let next = format!("next{round}");
            instance.set_service(&next.parse().unwrap(), ServiceRequest::default()).unwrap();
            bind(&mut instance, &next, Tcp, "192.0.2.0/24", "81");
            drop(instance);
            for _ in 0..5 {
                assert_eq!(asked(Tcp, "192.0.2.9:81"), "Refused", "round {round}");
            }
            assert!(state(&world, &next).sockets.is_empty(), "round {round}");
        }
    });
}

/// With `spread = "group"` the kernel chooses among the group of the socket, as programs with a selector of their own need it.
#[test]
fn a_service_may_leave_the_choice_to_the_group() {
    let Some((world, mut instance)) = two_services() else { return };
    let group = Listen::new().workers(2);
    let tcp = TcpServer::spawn_with("one", "[::]:0".parse().unwrap(), group).unwrap();
    let udp = UdpServer::spawn_with("one", "[::]:0".parse().unwrap(), group).unwrap();
    instance.register("one", &tcp).unwrap();
    instance.register("one", &udp).unwrap();
    for target in [V4[0], V6[0]] {
        (0..40).for_each(|_| assert_eq!([asked(Tcp, target), asked(Udp, target)], ["one", "one"]));
    }
    assert_eq!((tcp.served_each(), udp.served_each()), (vec![80, 0], vec![80, 0]), "Inlet chooses");
    let request = ServiceRequest { spread: Some(inlet::rules::Spread::Group), ..ServiceRequest::default() };
    let committed = instance.set_service(&"one".parse().unwrap(), request).unwrap();
    assert_eq!(committed.plan.services.len(), 1, "{:?}", committed.plan);
    drop(instance);
    assert_eq!(state(&world, "one").spread, inlet::rules::Spread::Group);
    for target in [V4[0], V6[0]] {
        (0..40).for_each(|_| assert_eq!([asked(Tcp, target), asked(Udp, target)], ["one", "one"]));
    }
    for served in [tcp.served_each(), udp.served_each()] {
        assert!(served[1] > 10, "the group chooses: {served:?}");
    }
}

/// A group that chooses among its members must not have some of another service. Inlet's own choice keeps them apart.
#[test]
fn a_group_that_chooses_is_of_one_service() {
    let Some((world, mut instance)) = two_services() else { return };
    let group = Listen::new().reuseport();
    let at: SocketAddr = "[::]:7000".parse().unwrap();
    let servers = ["one", "two"].map(|name| {
        let server = TcpServer::spawn_with(name, at, group).unwrap();
        instance.register(name, &server).unwrap();
        server
    });
    drop(instance);
    let found = || {
        let found = inlet::Checker::new(here(&world)).check(None).unwrap().findings;
        found.into_iter().find(|it| it.code == "group-in-two-services")
    };
    assert!(found().is_none());
    let request = ServiceRequest { spread: Some(inlet::rules::Spread::Group), ..ServiceRequest::default() };
    open(&world).set_service(&"two".parse().unwrap(), request).unwrap();
    let finding = found().unwrap();
    assert_eq!(finding.severity, inlet::Severity::Error);
    assert!(
        finding.what.ends_with("of service one is in a SO_REUSEPORT group that chooses for service two"),
        "{finding:?}"
    );
    drop(servers);
}
