//! Interfaces that come later: they have no program until somebody attaches it, and answers that leave without their port are
//! counted.

use std::net::{SocketAddr, UdpSocket};

use inlet::rules::Protocol;
use inlet::{AnswersState, Checker, Severity, Watcher};
use inlet_testkit::{End, Namespace, Netns, PATIENCE, World, kernel_at_least, note, veth};

use crate::common::{self, bind, snapshot, up};
use crate::{Echo, PREFIXES, attached, exchange, serve, strict, world};

fn uncovered(world: &World) -> Vec<String> {
    match snapshot(world).answers().unwrap() {
        AnswersState::Asked { uncovered, .. } => uncovered,
        other => panic!("{other:?}"),
    }
}

/// An interface that comes has no program until somebody attaches it: `inlet watch`, or the next change.
#[test]
fn interfaces_that_come_later() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53");
    drop(instance);
    assert_eq!(uncovered(&world), [""; 0]);
    world.ip(&["link", "add", "late0", "type", "veth", "peer", "name", "late1"]).unwrap();
    assert_eq!(uncovered(&world), ["late1", "late0"]);
    let watcher = Watcher::new(common::here(&world)).unwrap();
    watcher.look().unwrap();
    assert_eq!(uncovered(&world), [""; 0]);
    world.ip(&["link", "add", "late2", "type", "veth", "peer", "name", "late3"]).unwrap();
    assert_eq!(uncovered(&world), ["late3", "late2"]);
    while !uncovered(&world).is_empty() {
        watcher.wait(None).unwrap();
    }
    // What is gone is forgotten.
    drop(watcher);
    world.ip(&["link", "del", "late2"]).unwrap();
    bind(&mut common::open(&world), "dns", Protocol::Udp, PREFIXES[0], "54");
    assert_eq!(attached(&world).iter().filter(|pin| pin.starts_with("answers/port-")).count(), 3);
}

/// An interface that is made with the index of one that went has no program, whatever is pinned for that index. A change that
/// changes nothing covers it too.
#[test]
fn an_index_that_another_interface_gets() {
    let Some(world) = world() else { return };
    let make =
        || world.ip(&["link", "add", "again0", "index", "4711", "type", "veth", "peer", "name", "again1"]).unwrap();
    let remake = || {
        world.ip(&["link", "del", "again0"]).unwrap();
        make()
    };
    make();
    let mut instance = up(&world);
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53");
    drop(instance);
    assert_eq!(uncovered(&world), [""; 0]);
    remake();
    assert_eq!(uncovered(&world), ["again1", "again0"]);
    bind(&mut common::open(&world), "dns", Protocol::Udp, PREFIXES[0], "53");
    assert_eq!(uncovered(&world), [""; 0]);
    remake();
    assert_eq!(uncovered(&world), ["again1", "again0"]);
    Watcher::new(common::here(&world)).unwrap().look().unwrap();
    assert_eq!(uncovered(&world), [""; 0]);
}

/// A program in front that ends with `TCX_PASS` keeps ours from running: answers leave without their port, and `check` says
/// where.
#[test]
fn a_program_in_front_is_told() {
    let Some(world) = world() else { return };
    if !kernel_at_least(6, 6) {
        return note("no other program comes in front before Linux 6.6");
    }
    let mut instance = up(&world);
    let echo = Echo::bound_to("0.0.0.0:0");
    bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53");
    serve(&mut instance, "dns", &echo);
    drop(instance);
    let told = || {
        let found = Checker::new(common::here(&world)).check(None).unwrap().findings;
        found
            .into_iter()
            .find(|finding| finding.code == "udp-answers-behind")
            .map(|finding| (finding.severity, finding.what))
    };
    exchange(&strict("192.0.2.9:53"), b"before");
    assert_eq!(told(), None);
    let other = common::bpf::in_front(1);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked: SocketAddr = "192.0.2.9:53".parse().unwrap();
    assert_eq!(answered_from(&client, asked), SocketAddr::new(asked.ip(), echo.port()));
    let (severity, what) = told().unwrap();
    assert_eq!(severity, Severity::Note);
    assert!(what.starts_with("other programs see what leaves through lo before Inlet's does: id "), "{what}");
    drop(other);
    exchange(&strict("192.0.2.9:53"), b"after");
    assert_eq!(told(), None);
}

/// A pair of interfaces to another namespace, by which that one reaches the prefixes.
fn connect(world: &World, outside: &Namespace, number: u8) {
    let name = |end: &str| format!("{end}{number}");
    let addresses = |host: u8| [format!("10.{number}.0.{host}/24"), format!("2001:db8:{number}::{host}/64")];
    let ([inside, outer], [inner_at, outer_at]) = ([name("inside"), name("outside")], [addresses(1), addresses(2)]);
    let [inner_at, outer_at] = [&inner_at, &outer_at].map(|at| at.each_ref().map(String::as_str));
    veth(
        End { namespace: world, name: &inside, addresses: &inner_at },
        End { namespace: outside, name: &outer, addresses: &outer_at },
    )
    .unwrap();
    for (prefix, via) in PREFIXES.iter().zip([format!("10.{number}.0.1"), format!("2001:db8:{number}::1")]) {
        outside.ip(&["route", "replace", prefix, "via", &via]).unwrap();
    }
    for end in [(world as &Namespace, &inside), (outside, &outer)] {
        end.0.sysctl(&format!("net/ipv4/conf/{}/rp_filter", end.1), "0").unwrap();
    }
}

/// Where an answer comes from.
fn answered_from(client: &UdpSocket, target: SocketAddr) -> SocketAddr {
    client.send_to(b"who", target).unwrap();
    client.recv_from(&mut [0; 64]).unwrap().1
}

/// Clients beyond such an interface get answers from the port of the socket, and so many are counted: not those that need no
/// port, nor those that leave through another interface.
#[test]
fn answers_without_their_port_are_counted() {
    let Some(world) = world() else { return };
    let outside = Netns::unentered().unwrap();
    connect(&world, &outside, 1);
    for namespace in [&world as &Namespace, &outside] {
        namespace.sysctl("net/ipv4/conf/all/rp_filter", "0").unwrap();
    }
    let mut instance = up(&world);
    let echo = Echo::bound_to("[::]:0");
    let own = echo.port();
    for prefix in PREFIXES {
        bind(&mut instance, "dns", Protocol::Udp, prefix, "53");
        bind(&mut instance, "dns", Protocol::Udp, prefix, &own.to_string());
    }
    serve(&mut instance, "dns", &echo);
    drop(instance);
    let counted = || match snapshot(&world).answers().unwrap() {
        AnswersState::Asked { counters, .. } => counters.uncovered,
        other => panic!("{other:?}"),
    };
    connect(&world, &outside, 2);
    assert_eq!(uncovered(&world), ["inside2"]);

    let targets: [SocketAddr; 2] = ["192.0.2.9:53", "[2001:db8::9]:53"].map(|target| target.parse().unwrap());
    let client = |from: &str| {
        let socket = outside.enter(|| UdpSocket::bind(from)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let mut without = 0;
    for (target, from) in targets.into_iter().zip(["10.2.0.2:0", "[2001:db8:2::2]:0"]) {
        let client = client(from);
        for _ in 0..5 {
            without += u64::from(answered_from(&client, target) == SocketAddr::new(target.ip(), own));
        }
        // These need no port.
        let at_own = SocketAddr::new(target.ip(), own);
        assert_eq!(answered_from(&client, at_own), at_own);
        // These come and leave through an interface that has the program.
        exchange(&strict(&target.to_string()), b"inside");
    }
    assert_eq!((without, counted()), (10, 10));

    // These come through that interface, and leave through one that has the program.
    for (target, from) in targets.into_iter().zip(["10.1.0.2:0", "[2001:db8:1::2]:0"]) {
        assert_eq!(answered_from(&client(from), target), target);
    }
    assert_eq!(counted(), 10);

    Watcher::new(common::here(&world)).unwrap().look().unwrap();
    for (target, from) in targets.into_iter().zip(["10.2.0.2:0", "[2001:db8:2::2]:0"]) {
        assert_eq!(answered_from(&client(from), target), target);
    }
    assert_eq!(counted(), 10);
}
