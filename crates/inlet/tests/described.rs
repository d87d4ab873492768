//! Described sockets find their services: inside listen(), when they exist already, and when they are bound; and those
//! of others do not.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{asked, bind, here, open, patient, selector, snapshot, state, to, tree, up};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::{Confine, Description};
use inlet::{Adopted, DescribeError, Error, Instance, Refusal, ServiceRequest, StateError, UpOptions, Watcher};
use inlet_testkit::{
    Cgroup, Listen, Netns, PATIENCE, Program, Proto, TcpServer, UdpServer, World, as_user, dial_tcp, require_feature,
    rounds,
};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

fn described(listen: &[&str]) -> Description {
    Description::new(listen.iter().map(|text| text.parse().unwrap())).unwrap()
}

fn describe(instance: &mut Instance, service: &str, description: Option<Description>) -> inlet::Result<()> {
    let request = ServiceRequest { description: Some(description), ..ServiceRequest::default() };
    instance.set_service(&service.parse().unwrap(), request).map(drop)
}

/// A service on a prefix of each family, described: on all ports for TCP, and for UDP on two, so that answers to the
/// dialler's own ports do not go there.
fn world(listen: &[&str]) -> Option<World> {
    let world = World::new()?;
    let mut instance = up(&world);
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        world.local(prefix).unwrap();
        bind(&mut instance, "web", Tcp, prefix, "any");
        bind(&mut instance, "web", Udp, prefix, "53,443");
    }
    describe(&mut instance, "web", Some(described(listen))).unwrap();
    Some(world)
}

/// A listener. Programs that neighbouring tests start hold copies of the former one until their exec is through.
fn listener(addr: &str) -> TcpListener {
    let addr: SocketAddr = addr.parse().unwrap();
    loop {
        match TcpListener::bind(addr) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => std::thread::yield_now(),
            bound => return bound.unwrap(),
        }
    }
}

/// No event is waited for between listen() and connect(): the listener is in its service when listen() returns.
#[test]
fn a_connection_right_after_listen_is_steered() {
    let Some(world) = world(&["tcp:127.0.0.1:18080"]) else { return };
    for round in 0..rounds(10_000, 1_000) {
        let listener = listener("127.0.0.1:18080");
        let client = TcpStream::connect("192.0.2.7:443");
        let client = client.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let (served, _) = listener.accept().unwrap();
        assert_eq!(served.local_addr().unwrap().to_string(), "192.0.2.7:443");
        // The client's side closes last, so that no port of the server waits.
        drop((client, served));
    }
    let service = state(&world, "web");
    assert_eq!((service.counters.failed, service.refusal), (0, None));
    // A missed first packet is refused and fails its round. What is sent again after its connection is gone is looked up
    // too, when the next listener may not be there yet.
    let (missed, sent_again) = (service.counters.missed, segments_sent_again());
    assert!(missed <= sent_again, "missed: {missed}, sent again: {sent_again}");
}

/// How many TCP segments of this namespace were sent more than once (proc_net_snmp(5), `RetransSegs`).
fn segments_sent_again() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let [names, values] = [0, 1].map(|at| text.lines().filter(|it| it.starts_with("Tcp:")).nth(at).unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn sockets_that_exist_are_adopted() {
    let Some(world) = world(&["tcp:127.0.0.1:1"]) else { return };
    let tcp = TcpServer::spawn("tcp", "[::]:8080".parse().unwrap()).unwrap();
    let udp = UdpServer::spawn("udp", "[::]:8080".parse().unwrap()).unwrap();
    let other = TcpServer::spawn("other", "127.0.0.1:8081".parse().unwrap()).unwrap();
    let connected = UdpSocket::bind("127.0.0.1:8082").unwrap();
    connected.connect("127.0.0.1:9").unwrap();
    describe(&mut open(&world), "web", Some(described(&["tcp:*:8080", "udp:*:8080", "udp:*:8082"]))).unwrap();
    for target in ["192.0.2.7:443", "[2001:db8::7]:443"] {
        assert_eq!([Tcp, Udp].map(|protocol| asked(protocol, target)), ["tcp", "udp"], "{target}");
    }
    let service = state(&world, "web");
    assert_eq!(service.sockets.len(), 2, "{service:?}");
    assert!(service.sockets.iter().all(|socket| socket.v4 && socket.v6));
    // Looking again changes nothing.
    let found = open(&world).adopt().unwrap();
    assert_eq!(found.iter().map(|found| found.outcome).collect::<Vec<_>>(), [Ok(Adopted::Before); 2]);
    let cookies = |service: &inlet::ServiceState| service.sockets.iter().map(|it| it.cookie).collect::<Vec<_>>();
    assert_eq!(cookies(&state(&world, "web")), cookies(&service));
    drop((tcp, udp, other));
}

#[test]
fn addresses_mean_what_they_say() {
    // What is described, where a listener is, and whether it is meant.
    let cases = [
        ("tcp:127.0.0.1:8080", "127.0.0.1:8080", true),
        ("tcp:127.0.0.1:8080", "0.0.0.0:8080", false),
        ("tcp:127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true),
        ("tcp:127.0.0.1:8080", "127.0.0.1:8081", false),
        ("tcp:0.0.0.0:8080", "0.0.0.0:8080", true),
        ("tcp:0.0.0.0:8080", "[::]:8080", false),
        ("tcp:[::]:8080", "[::]:8080", true),
        ("tcp:[::1]:8080", "[::1]:8080", true),
        ("tcp:[::1]:8080", "[::]:8080", false),
        ("tcp:*:8080", "[::1]:8080", true),
        ("tcp:*:8080", "[::]:8080", true),
        ("tcp:*:8080", "127.0.0.1:8080", true),
        ("udp:*:8080", "127.0.0.1:8080", false),
    ];
    let Some(world) = world(&["tcp:127.0.0.1:1"]) else { return };
    for (listen, addr, is_meant) in cases {
        let early = listener(addr);
        describe(&mut open(&world), "web", Some(described(&[listen]))).unwrap();
        assert_eq!(state(&world, "web").sockets.len(), usize::from(is_meant), "{listen} {addr} first");
        drop(early);
        common::wait_for_sockets(&world, "web", 0);
        let late = listener(addr);
        assert_eq!(state(&world, "web").sockets.len(), usize::from(is_meant), "{listen} {addr} later");
        drop(late);
        common::wait_for_sockets(&world, "web", 0);
    }
}

#[test]
fn many_listeners_share_and_the_newest_evicts_none() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    // So small that the lane of the service has 8 slots.
    let mut instance = Instance::up(here(&world), &UpOptions { max_sockets: 16, ..UpOptions::default() }).unwrap();
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "any");
    describe(&mut instance, "web", Some(described(&["tcp:127.0.0.1:18081"]))).unwrap();
    drop(instance);
    let worker =
        || TcpServer::spawn_with("worker", "127.0.0.1:18081".parse().unwrap(), Listen::new().reuseport()).unwrap();
    let mut workers: Vec<TcpServer> = (0..8).map(|_| worker()).collect();
    assert_eq!(state(&world, "web").sockets.len(), 8);
    // One more than fit: it is counted and told, and takes nobody's place.
    let one_more = worker();
    let service = state(&world, "web");
    assert_eq!(service.sockets.len(), 8);
    let refusal = service.refusal.unwrap();
    assert_eq!((refusal.count, refusal.reason), (1, Refusal::Full));
    assert_eq!(refusal.endpoint.to_string(), "tcp:127.0.0.1:18081");
    assert_eq!(refusal.pid, Some(std::process::id()));
    drop(one_more);
    workers.drain(1..7);
    common::wait_for_sockets(&world, "web", 2);
    for port in 1..200 {
        assert_eq!(asked(Tcp, &format!("192.0.2.7:{port}")), "worker");
    }
    // Places of those that left are taken again.
    let new: Vec<TcpServer> = (0..7).map(|_| worker()).collect();
    assert_eq!(state(&world, "web").sockets.len(), 8);
    // Somebody looks, and there is room for the one that did not fit.
    let found = open(&world).adopt().unwrap();
    assert!(found.iter().all(|found| found.outcome.is_ok()) && found.len() == 9, "{found:?}");
    assert_eq!(state(&world, "web").sockets.len(), 9);
    drop((workers, new));
}

#[test]
fn listeners_of_others_are_not_adopted() {
    let Some(world) = World::new() else { return };
    let cgroup = Cgroup::new().unwrap();
    let mut instance = up(&world);
    instance.bind(&to("web"), &selector(Tcp, "127.0.0.0/8", "443")).unwrap();
    let mut mine = described(&["tcp:127.0.0.1:18082"]);
    mine.user = Some("12345".parse().unwrap());
    describe(&mut instance, "web", Some(mine)).unwrap();
    drop(instance);
    let sockets = || state(&world, "web").sockets.len();
    let root = listener("127.0.0.1:18082");
    assert_eq!(sockets(), 0, "of another user");
    drop(root);
    let user = socat(|command| _ = as_user(command, 12345, 12345, &[]));
    // The kernel tells of a listener a moment after it listens.
    common::wait_for_sockets(&world, "web", 1);
    drop(user);
    common::wait_for_sockets(&world, "web", 0);

    let mut there = described(&["tcp:127.0.0.1:18082"]);
    let path = cgroup.path().file_name().unwrap().to_str().unwrap().to_owned();
    there.confine = Some(Confine::Cgroup(format!("/{path}").parse().unwrap()));
    describe(&mut open(&world), "web", Some(there)).unwrap();
    let here_not_there = listener("127.0.0.1:18082");
    assert_eq!((sockets(), open(&world).adopt().unwrap().len()), (0, 0), "of another control group");
    drop(here_not_there);
    assert_eq!(state(&world, "web").refusal, None);
    let program = socat(|command| cgroup.contain(command).unwrap());
    common::wait_for_sockets(&world, "web", 1);
    drop(program);

    describe(&mut open(&world), "web", Some(described(&["tcp:127.0.0.1:18082"]))).unwrap();
    let namespace = Netns::unentered().unwrap();
    let elsewhere = namespace.enter(|| listener("127.0.0.1:18082"));
    let service = state(&world, "web");
    assert_eq!(service.sockets.len(), 0, "of another namespace");
    assert_eq!(service.refusal, None, "what is in another namespace is none of this instance's");
    drop(elsewhere);
}

/// A program that listens on port 18082, once it does.
fn socat(how: impl FnOnce(&mut Command)) -> Program {
    let mut command = Command::new("socat");
    command.args(["TCP-LISTEN:18082,bind=127.0.0.1,reuseaddr,fork", "SYSTEM:echo there"]);
    how(&mut command);
    let mut program = Program::start(&mut command).unwrap();
    program.wait_listening(Proto::Tcp, "127.0.0.1:18082".parse().unwrap(), PATIENCE).unwrap();
    program
}

#[test]
fn multipath_tcp_is_told_with_the_remedy() {
    let Some(world) = world(&["tcp:127.0.0.1:18083"]) else { return };
    let listener = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
    if !require_feature(listener.is_ok(), "CONFIG_MPTCP", (5, 6)) {
        return;
    }
    let listener = listener.unwrap();
    rustix::net::bind(&listener, &"127.0.0.1:18083".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let service = state(&world, "web");
    assert!(service.sockets.is_empty());
    let refusal = service.refusal.unwrap();
    assert_eq!((refusal.count, refusal.reason), (1, Refusal::Mptcp));
    assert!(refusal.reason.remedy().unwrap().contains("GODEBUG=multipathtcp=0"));
}

#[test]
fn a_watcher_adopts_udp_sockets_as_they_are_bound() {
    let Some(world) = world(&["udp:127.0.0.1:8080"]) else { return };
    let unwatched = UdpServer::spawn("unwatched", "127.0.0.1:8080".parse().unwrap()).unwrap();
    assert!(state(&world, "web").sockets.is_empty() && !snapshot(&world).is_watched().unwrap());
    let watcher = Watcher::new(here(&world)).unwrap();
    assert!(matches!(Watcher::new(here(&world)), Err(Error::Describe(DescribeError::Watched { .. }))));
    assert!(snapshot(&world).is_watched().unwrap());
    assert_eq!(watcher.look().unwrap().len(), 1);
    assert_eq!(asked(Udp, "192.0.2.7:53"), "unwatched");
    drop(unwatched);
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            common::wait_for_sockets(&world, "web", 0);
            let began = Instant::now();
            let socket = UdpSocket::bind("127.0.0.1:8080").unwrap();
            let found = watcher.wait(None).unwrap();
            let took = began.elapsed();
            // A socket of another port says nothing, and an earlier bind may be told late.
            assert!(found.is_some());
            assert_eq!(state(&world, "web").sockets.len(), 1);
            drop(socket);
            took
        })
        .collect();
    times.sort();
    println!("from bind() to the place: median {:?}, 99th percentile {:?}", times[50], times[98]);
    // What was adopted stays so without a watcher.
    let last = UdpServer::spawn("last", "127.0.0.1:8080".parse().unwrap()).unwrap();
    watcher.wait(None).unwrap();
    drop(watcher);
    assert_eq!(asked(Udp, "192.0.2.7:53"), "last");
    drop(last);
}

#[test]
fn a_watcher_ends_with_its_instance() {
    let Some(world) = world(&["udp:127.0.0.1:8080"]) else { return };
    let watcher = Watcher::new(here(&world)).unwrap();
    Instance::down(&here(&world)).unwrap();
    assert!(matches!(watcher.wait(None), Err(Error::State(StateError::NotUp { .. }))));
}

#[test]
fn what_a_description_brought_goes_with_it() {
    let Some(world) = world(&["tcp:127.0.0.1:8080"]) else { return };
    let server = TcpServer::spawn("web", "127.0.0.1:8080".parse().unwrap()).unwrap();
    let by_hand = TcpServer::spawn("hand", "127.0.0.1:8081".parse().unwrap()).unwrap();
    open(&world).register("web", &by_hand).unwrap();
    assert_eq!(state(&world, "web").sockets.len(), 2);
    describe(&mut open(&world), "web", Some(described(&["tcp:127.0.0.1:8082"]))).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "hand");
    assert_eq!(state(&world, "web").sockets.len(), 1);
    describe(&mut open(&world), "web", None).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "hand");
    // Nothing looks at sockets any more.
    assert!(!tree(&here(&world).dir()).iter().any(|file| file.starts_with("described")));
    drop((server, by_hand));
}

#[test]
fn two_descriptions_that_could_claim_one_socket_are_refused() {
    let Some(world) = world(&["tcp:*:8080"]) else { return };
    let before = tree(world.bpffs.path());
    let error = describe(&mut open(&world), "other", Some(described(&["tcp:127.0.0.1:8080"]))).unwrap_err();
    let expected = "services other and web could both claim a socket at tcp:127.0.0.1:8080";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert_eq!(tree(world.bpffs.path()), before);
    let mut nowhere = described(&["tcp:*:8081"]);
    nowhere.confine = Some(Confine::Unit("no-such.service".parse().unwrap()));
    let error = describe(&mut open(&world), "other", Some(nowhere.clone())).unwrap_err();
    assert!(error.to_string().contains("no running unit no-such.service"), "{error}");
    let later = ServiceRequest { description: Some(Some(nowhere)), later: true, ..ServiceRequest::default() };
    open(&world).set_service(&"other".parse().unwrap(), later).unwrap();
    let mut nobody = described(&["tcp:*:8082"]);
    nobody.user = Some("no-such-user".parse().unwrap());
    let error = describe(&mut open(&world), "third", Some(nobody)).unwrap_err();
    assert!(error.to_string().contains("unknown user \"no-such-user\""), "{error}");
}

/// A socket that was registered for another service stays there, and who looks is told.
#[test]
fn one_socket_serves_one_service() {
    let Some(world) = world(&["tcp:127.0.0.1:1"]) else { return };
    let server = TcpServer::spawn("hand", "127.0.0.1:8080".parse().unwrap()).unwrap();
    let mut instance = open(&world);
    instance.set_service(&"hand".parse().unwrap(), ServiceRequest::default()).unwrap();
    instance.register("hand", &server).unwrap();
    describe(&mut instance, "web", Some(described(&["tcp:127.0.0.1:8080"]))).unwrap();
    let found = instance.adopt().unwrap();
    assert!(found[0].outcome.unwrap_err().to_string().starts_with("it serves another service"));
    drop(instance);
    assert_eq!((state(&world, "web").sockets.len(), state(&world, "hand").sockets.len()), (0, 1));
    let dialled = dial_tcp("192.0.2.7:80".parse().unwrap(), &patient());
    assert_eq!(common::who(&dialled), "Refused");
}
