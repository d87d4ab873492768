//! What else in the kernel meets the hook: lookups of tc programs, syncookies, the host's own connections, an earlier
//! program of somebody else.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::bpf::{Found, attach, choosing, passing, refusing, replacing, skc_lookup_tcp};
use common::{Receiver, asked, bind, dial, here, open, patient, snapshot, state, told, up};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::Target;
use inlet::{Checker, Counters, Error, Instance, Outcome, Snapshot, StateError, Steering, Unasked};
use inlet_testkit::{PATIENCE, TcpServer, World, dial_tcp};

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

/// What the kernel makes of several programs (`BPF_PROG_SK_LOOKUP_RUN_ARRAY`): the last socket that one chose counts, whoever
/// refuses; without a socket the packet is refused when one program refuses it. Inlet does not choose where one before it did.
#[test]
fn what_programs_of_others_decide() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let other = TcpServer::spawn("other", common::anywhere()).unwrap();
    let ordinary = TcpServer::spawn("ordinary", "0.0.0.0:82".parse().unwrap()).unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    instance.bind(&Target::Refuse, &common::selector(Tcp, "192.0.2.0/24", "81")).unwrap();
    let _receiver = Receiver::of(&mut instance, "web");
    drop(instance);
    let ports = ["192.0.2.9:80", "192.0.2.9:81", "192.0.2.9:82"];
    let who = || ports.map(|target| asked(Tcp, target));
    assert_eq!(who(), ["web", "Refused", "ordinary"]);
    let (chooser, _map) = choosing(other.as_fd());
    let (replacer, _other_map) = replacing(other.as_fd());
    let refuser = refusing();
    for (after, expected) in [
        (&refuser, ["web", "Refused", "Refused"]),
        (&chooser, ["web", "other", "other"]),
        (&replacer, ["other", "other", "other"]),
    ] {
        let _link = attach(after.as_fd(), world.netns.fd());
        assert_eq!(who(), expected, "a program that comes later");
        let hook = snapshot(&world).hook().unwrap();
        let (before, after) = hook.others();
        assert_eq!((hook.steering, before.len(), after.len()), (Steering::Yes, 0, 1));
        assert_eq!(after[0].name.as_deref(), Some("test"));
    }
    // The link of Inlet comes anew after the others.
    for (before, expected) in [
        (&refuser, ["web", "Refused", "Refused"]),
        (&chooser, ["other", "other", "other"]),
        (&replacer, ["other", "other", "other"]),
    ] {
        let _link = attach(before.as_fd(), world.netns.fd());
        let held = Snapshot::open(here(&world)).unwrap().into_ruleset();
        Instance::down(&here(&world)).unwrap();
        let mut instance = up(&world);
        instance.commit(held, &inlet::CommitOptions::default()).unwrap();
        let _again = Receiver::of(&mut instance, "web");
        drop(instance);
        assert_eq!(who(), expected, "a program that comes earlier");
        let hook = snapshot(&world).hook().unwrap();
        let (before, after) = hook.others();
        assert_eq!((before.len(), after.len()), (1, 0), "{hook:?}");
        let found = Checker::new(here(&world)).check(None).unwrap().findings;
        let said = found.iter().find(|it| it.code == "other-programs").unwrap();
        assert!(said.what.contains(&format!("before inlet's: id {} (test)", before[0].id)), "{}", said.what);
    }
    drop(ordinary);
    let found = Checker::new(here(&world)).check(None).unwrap().findings;
    assert!(found.iter().all(|it| it.code != "other-programs"), "{found:?}");
}

/// The kernel lets go of a link a moment after the last who had it.
fn wait_for_the_link_to_go(snapshot: &Snapshot) {
    let until = Instant::now() + PATIENCE;
    while snapshot.hook().unwrap().steering != Steering::No {
        assert!(Instant::now() < until, "{:?}", snapshot.hook());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_link_without_its_pin_is_told() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    let _receiver = Receiver::of(&mut instance, "web");
    let link = here(&world).dir().join("link");
    // The open instance holds the link: packets are steered until it ends.
    std::fs::remove_file(&link).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
    drop(instance);
    let snapshot = snapshot(&world);
    wait_for_the_link_to_go(&snapshot);
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "Refused");
    assert_eq!(snapshot.ruleset().len(), 1, "the rules can still be saved");
    let packet = inlet::rules::Packet::new(Tcp, "192.0.2.9:80".parse().unwrap(), "192.0.2.1:4000".parse().unwrap());
    let story = snapshot.explain(&packet).unwrap();
    assert_eq!((story.outcome, story.socket.is_some()), (Outcome::Pass, false));
    assert_eq!(story.live, inlet::Agreement::NotAsked(Unasked::NotSteering));
    drop(snapshot);
    let found = Checker::new(here(&world)).check(None).unwrap();
    assert!(found.has_errors() && found.findings.iter().any(|it| it.code == "not-steering"), "{found:?}");
    let error = Instance::open(here(&world)).unwrap_err();
    assert!(matches!(error, Error::State(StateError::LinkGone { .. })), "{error}");
    assert!(told(&error).contains("so no packet is steered\nfix: begin anew: inlet export"), "{}", told(&error));
    // What the fix says.
    Instance::down(&here(&world)).unwrap();
    up(&world);
}

#[test]
fn a_link_that_a_process_holds_is_told() {
    let Some(world) = World::new() else { return };
    let instance = up(&world);
    let link = here(&world).dir().join("link");
    let held = common::bpf::hold(&link);
    drop(instance);
    std::fs::remove_file(&link).unwrap();
    let snapshot = snapshot(&world);
    assert_eq!(snapshot.hook().unwrap().steering, Steering::Unpinned);
    let error = snapshot.require_steering().unwrap_err();
    assert!(error.to_string().contains("only until the process ends that has the link open"), "{error}");
    drop(held);
    wait_for_the_link_to_go(&snapshot);
}
