//! Who received is who `explain` says: random services with random sockets (groups, devices, several services at one address,
//! dual-stack or not), random rules and addresses that come and go. Every packet is a real one, over loopback or one of two
//! veth pairs, and its receiver answers with its name. Once more with one of the pairs in a VRF.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]
#![allow(clippy::print_stdout, reason = "a run that fails is repeated with its seed")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use common::{dial_with, open, patient, selector, snapshot, to, up, who};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::{Packet, Protocol, Target};
use inlet::{Explainer, Explanation, Outcome, ServiceRequest};
use inlet_testkit::{End, Listen, Namespace, Netns, TcpServer, UdpServer, World, is_guest, note, rounds, veth};
use rustix::net::sockopt::socket_cookie;

const SERVICES: [&str; 3] = ["a", "b", "c"];
const DEVICES: [&str; 2] = ["in-a", "in-b"];
const VRF: &str = "red";
const PORTS: [u16; 4] = [80, 81, 7000, 7001];
const BINDS: [&str; 6] = ["0.0.0.0", "[::]", "127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"];
const PREFIXES: [&str; 8] =
    ["192.0.2.0/24", "192.0.2.0/25", "192.0.2.1", "127.0.0.0/8", "0.0.0.0/0", "2001:db8::/64", "2001:db8::1", "::/0"];
const TARGETS: [&str; 8] =
    ["192.0.2.1", "192.0.2.9", "192.0.2.200", "127.0.0.1", "127.0.0.9", "2001:db8::1", "2001:db8::9", "::1"];

const PACKETS: usize = 360;

/// Numbers that look random and are the same each time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Where packets come from: this namespace itself, or a neighbour.
struct Surroundings {
    world: World,
    neighbours: [Namespace; 2],
    /// The indexes of `lo` and of the two interfaces to the neighbours.
    interfaces: [u32; 3],
    /// What sockets are bound to.
    devices: Vec<&'static str>,
}

fn surroundings() -> Option<Surroundings> {
    let world = World::new()?;
    let here = Namespace::current().unwrap();
    let neighbours = [0, 1].map(|_| Netns::unentered().unwrap());
    for (number, neighbour) in neighbours.iter().enumerate() {
        let own = [format!("10.9.{number}.1/24"), format!("2001:db8:9{number}::1/64")];
        let theirs = [format!("10.9.{number}.2/24"), format!("2001:db8:9{number}::2/64")];
        let (own, theirs) = (own.each_ref().map(String::as_str), theirs.each_ref().map(String::as_str));
        let own = End { namespace: &here, name: DEVICES[number], addresses: &own };
        veth(own, End { namespace: neighbour, name: "out", addresses: &theirs }).unwrap();
        neighbour.ip(&["route", "add", "192.0.2.0/24", "via", &format!("10.9.{number}.1")]).unwrap();
        neighbour.ip(&["-6", "route", "add", "2001:db8::/64", "via", &format!("2001:db8:9{number}::1")]).unwrap();
    }
    for limit in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
        world.netns.sysctl(limit, "0").unwrap();
    }
    // A limit of each namespace since Linux 6.13; before that one of the machine, which has room for what this asks.
    for limit in ["net/ipv4/icmp_msgs_per_sec", "net/ipv4/icmp_msgs_burst"] {
        let _ = world.netns.sysctl(limit, "1000000");
    }
    let index = |name: &str| rustix::net::netdevice::name_to_index(socket().as_fd(), name).unwrap();
    let interfaces = ["lo", DEVICES[0], DEVICES[1]].map(index);
    Some(Surroundings { world, neighbours, interfaces, devices: DEVICES.to_vec() })
}

/// Puts the second interface into a VRF, with a table in which the prefixes are local.
fn with_vrf(mut all: Surroundings) -> Option<Surroundings> {
    let ip = |line: &str| all.world.netns.ip(&line.split_whitespace().collect::<Vec<_>>());
    let made = ip(&format!("link add {VRF} type vrf table 100"));
    // A guest gets the module with its kernel.
    if !is_guest() && made.is_err() {
        note("this kernel has no VRFs: the kernels of `make test-vm` have them");
        return None;
    }
    made.unwrap();
    for line in [
        format!("link set {VRF} up"),
        format!("link set {} master {VRF}", DEVICES[1]),
        // An interface that moves into a VRF loses its IPv6 addresses.
        format!("-6 addr add 2001:db8:91::1/64 dev {} nodad", DEVICES[1]),
        format!("route add local 192.0.2.0/24 dev {VRF} table 100"),
        format!("-6 route add local 2001:db8::/64 dev {VRF} table 100"),
    ] {
        ip(&line).unwrap();
    }
    all.devices.push(VRF);
    Some(all)
}

fn socket() -> impl AsFd {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap()
}

enum Server {
    Tcp(TcpServer),
    Udp(UdpServer),
}

impl Server {
    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Tcp(server) => server.sockets().collect(),
            Self::Udp(server) => server.sockets().collect(),
        }
    }
}

/// A server with random sockets, which may be in one group with those of others. `None` when its address is taken.
fn server(dice: &mut Dice, name: &str, devices: &[&'static str]) -> Option<Server> {
    let at: SocketAddr = format!("{}:{}", dice.one_of(&BINDS), dice.one_of(&PORTS)).parse().unwrap();
    let mut how = Listen::new().freebind();
    if !dice.once_in(3) {
        how = how.reuseport();
    }
    if dice.once_in(4) {
        how = how.device(dice.one_of(devices));
    }
    if at.is_ipv6() && dice.once_in(3) {
        how = how.v6only();
    }
    match dice.once_in(2) {
        true => TcpServer::spawn_with(name, at, how).ok().map(Server::Tcp),
        false => UdpServer::spawn_with(name, at, how).ok().map(Server::Udp),
    }
}

/// A service gets some of the sockets; others stay on their own, though they may share the address.
fn populate(dice: &mut Dice, all: &Surroundings, names: &mut BTreeMap<u64, String>) -> Vec<Server> {
    let mut servers = Vec::new();
    for number in 0..3 + dice.below(9) {
        let name = format!("s{number}");
        let Some(server) = server(dice, &name, &all.devices) else { continue };
        for socket in server.sockets() {
            names.insert(socket_cookie(socket).unwrap(), name.clone());
            if !dice.once_in(3) {
                open(&all.world).register(dice.one_of(&SERVICES), socket).unwrap();
            }
        }
        servers.push(server);
    }
    servers
}

fn rule(dice: &mut Dice, all: &Surroundings) {
    let protocol = dice.one_of(&[Tcp, Udp]);
    let prefix = dice.one_of(&PREFIXES);
    // No rule has the ports of the clients: it would also decide who gets the answers, and the ICMP errors.
    let mut matching = selector(protocol, prefix, dice.one_of(&["80", "1-30000", "80-90", "7000", "81,7001"]));
    if dice.once_in(4) {
        matching.iface = Some(if dice.once_in(3) { "lo" } else { dice.one_of(&all.devices) }.parse().unwrap());
    }
    let is_v6 = prefix.contains(':');
    if dice.once_in(4) {
        matching.source = Some((if is_v6 { "2001:db8:90::/64" } else { "10.9.0.0/24" }).parse().unwrap());
    }
    let target = match dice.below(6) {
        0 => Target::Pass,
        1 => Target::Refuse,
        _ => to(dice.one_of(&SERVICES)),
    };
    // One that ties with another is refused, and changes nothing.
    let _ = open(&all.world).bind(&target, &matching);
}

/// Addresses that come and go: whole prefixes by a route, single ones by an address.
fn addresses(dice: &mut Dice, world: &World) {
    for change in [
        ["route", "local", "192.0.2.0/24", "lo"],
        ["-6 route", "local", "2001:db8::/64", "lo"],
        ["addr", "", "192.0.2.1/32", DEVICES[0]],
        ["-6 addr", "", "2001:db8::1/128", "lo"],
    ] {
        let verb = if dice.once_in(3) { "del" } else { "add" };
        let [object, kind, what, device] = change;
        let nodad = if object == "-6 addr" && verb == "add" { " nodad" } else { "" };
        let line = format!("{object} {verb} {kind} {what} dev {device}{nodad}");
        let words: Vec<&str> = line.split_whitespace().collect();
        // What is there already, or not, stays so.
        let _ = world.netns.ip(&words);
    }
}

/// The names that may answer, by what `explain` says; none: the packet is refused.
fn expected(told: &Explanation, names: &BTreeMap<u64, String>) -> Vec<String> {
    let may = match told.outcome {
        Outcome::Socket => &told.sockets,
        Outcome::Pass => &told.ordinary,
        Outcome::Refuse => return Vec::new(),
    };
    let receiving = may.iter().filter(|socket| socket.receiving);
    receiving.map(|socket| names[&socket.cookie].clone()).collect()
}

#[test]
fn who_received_is_who_explain_says() {
    if let Some(all) = surroundings() {
        try_all(&all, 0..3);
    }
}

#[test]
fn who_received_in_a_vrf_is_who_explain_says() {
    if let Some(all) = surroundings().and_then(with_vrf) {
        try_all(&all, 1..3);
    }
}

/// Packets come from this namespace (0) or from a neighbour (1, 2).
fn try_all(all: &Surroundings, senders: Range<usize>) {
    let world = &all.world;
    drop(up(world));
    let seed = std::env::var("INLET_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("INLET_SEED={seed}");
    let mut dice = Dice(seed);
    let (mut asked, mut received, mut mute) = (0, 0, 0);
    for round in 0..rounds(60, 4) {
        for service in SERVICES {
            open(world).set_service(&service.parse().unwrap(), ServiceRequest::default()).unwrap();
        }
        addresses(&mut dice, world);
        for accept in ["net/ipv4/tcp_l3mdev_accept", "net/ipv4/udp_l3mdev_accept"] {
            let is_on = ["0", "1"][dice.below(2)];
            // Only kernels with VRFs have it.
            assert!(world.netns.sysctl(accept, is_on).is_ok() || !all.devices.contains(&VRF), "{accept}");
        }
        let mut names = BTreeMap::new();
        let servers = populate(&mut dice, all, &mut names);
        (0..2 + dice.below(6)).for_each(|_| rule(&mut dice, all));
        let read = snapshot(world);
        let explainer = read.explainer().unwrap();
        for _ in 0..PACKETS {
            let from = senders.start + dice.below(senders.len());
            let protocol = dice.one_of(&[Tcp, Udp]);
            let target: IpAddr = dice.one_of(&TARGETS).parse().unwrap();
            let target = SocketAddr::new(target, dice.one_of(&PORTS));
            asked += 1;
            let Some(told) = tell(all, &explainer, from, protocol, target) else { continue };
            let may = expected(&told, &names);
            let mut how = patient().source(told.packet.remote.ip());
            if told.routing.mute.is_some() {
                // What is received cannot be answered. A few times that is waited for.
                mute += 1;
                if mute > 5 || may.is_empty() {
                    continue;
                }
                how = how.timeout(Duration::from_millis(300));
            }
            let dial = || who(&dial_with(protocol, target, &how));
            let got = if from == 0 { dial() } else { all.neighbours[from - 1].enter(dial) };
            let fits = if told.routing.mute.is_some() {
                got == "TimedOut"
            } else if may.is_empty() {
                got == "Refused"
            } else {
                may.contains(&got)
            };
            assert!(fits, "round {round}: {protocol} -> {target} from {from}: {got}, not {may:?}\n{told:#?}");
            received += 1;
        }
        drop(read);
        // All rules go, and all sockets.
        open(world).apply(common::source(r#"{"rules": []}"#), &inlet::ApplyOptions::default()).unwrap();
        drop(servers);
    }
    println!("{asked} packets, {received} to local addresses, {mute} that cannot be answered");
    assert!(received * 5 > asked, "{received} of {asked}");
}

/// What `explain` says of a packet; `None` when it cannot come, or not to a local address.
fn tell(
    all: &Surroundings,
    explainer: &Explainer<'_>,
    from: usize,
    protocol: Protocol,
    target: SocketAddr,
) -> Option<Explanation> {
    let remote = SocketAddr::new(source(from, target.ip())?, 0);
    let explain = |ifindex| explainer.explain(&Packet { ifindex, ..Packet::new(protocol, target, remote) }).unwrap();
    let told = explain(all.interfaces[from]);
    if !told.routing.reach.is_local() {
        return None;
    }
    // The host's own packets pass lo, but count as come in where their address is (ip6_rcv_core, and rt_iif of
    // __ip_route_output_key_hash_rcu).
    let device = told.routing.reach.route().and_then(|route| route.interface.clone());
    let of_address = device.and_then(|name| ["lo", DEVICES[0], DEVICES[1]].iter().position(|it| *it == name));
    match (from, of_address) {
        (0, Some(device)) => Some(explain(all.interfaces[device])),
        _ => Some(told),
    }
}

/// Where a packet comes from; `None` when none can come that way: loopback addresses have no way over a wire.
fn source(from: usize, target: IpAddr) -> Option<IpAddr> {
    let text = match (from, target.is_ipv6()) {
        (0, _) => return Some(target),
        _ if target.is_loopback() => return None,
        (neighbour, false) => format!("10.9.{}.2", neighbour - 1),
        (neighbour, true) => format!("2001:db8:9{}::2", neighbour - 1),
    };
    Some(text.parse().unwrap())
}
