//! What the root tests of this crate share: where the instance is, rules in one line, receivers, dials.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod asking;
pub(crate) mod bpf;
pub(crate) mod killed;
pub(crate) mod marks;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inlet::rules::config::Source;
use inlet::rules::{Protocol, Selector, Target};
use inlet::{Error, Instance, Location, Netns, ServiceState, Snapshot, UpOptions};
use inlet_testkit::{Answer, Dial, PATIENCE, TcpServer, UdpServer, World, dial_tcp, dial_udp};

/// The instance of the calling thread's namespace in the bpffs of the world.
pub(crate) fn here(world: &World) -> Location {
    at(world.bpffs.path())
}

/// The same for a thread that has no world of its own.
pub(crate) fn at(bpffs: &Path) -> Location {
    Location::new(bpffs, Netns::own().unwrap())
}

pub(crate) fn up(world: &World) -> Instance {
    Instance::up(here(world), &UpOptions::default()).unwrap()
}

pub(crate) fn open(world: &World) -> Instance {
    Instance::open(here(world)).unwrap()
}

pub(crate) fn snapshot(world: &World) -> Snapshot {
    Snapshot::open(here(world)).unwrap()
}

/// A service as readers see it.
pub(crate) fn state(world: &World, service: &str) -> ServiceState {
    let all = snapshot(world).services().unwrap();
    all.into_iter().find(|state| state.name.as_str() == service).unwrap()
}

/// Waits until a service has so many live sockets. A program that a neighbouring test starts holds copies of all
/// descriptors of this process until its exec is through, so that a socket may close a moment after its server is gone.
pub(crate) fn wait_for_sockets(world: &World, service: &str, count: usize) {
    let until = Instant::now() + PATIENCE;
    while state(world, service).sockets.len() != count {
        assert!(Instant::now() < until, "{:?}", state(world, service).sockets);
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn source(text: &str) -> Source {
    Source::new("test", text.to_owned())
}

pub(crate) fn selector(protocol: Protocol, local: &str, ports: &str) -> Selector {
    Selector {
        protocol,
        local: local.parse().unwrap(),
        ports: ports.parse().unwrap(),
        source: None,
        iface: None,
        mark: None,
    }
}

pub(crate) fn to(service: &str) -> Target {
    Target::Service(service.parse().unwrap())
}

pub(crate) fn bind(instance: &mut Instance, service: &str, protocol: Protocol, local: &str, ports: &str) {
    instance.bind(&to(service), &selector(protocol, local, ports)).unwrap();
}

/// Waits as long as a slow machine may need: a timeout is a failure, never an answer that a test hopes for.
pub(crate) fn patient() -> Dial {
    Dial::new().timeout(PATIENCE)
}

pub(crate) fn dial_with(protocol: Protocol, target: SocketAddr, how: &Dial) -> Answer {
    match protocol {
        Protocol::Tcp => dial_tcp(target, how),
        Protocol::Udp => dial_udp(target, how),
    }
}

pub(crate) fn dial(protocol: Protocol, target: &str) -> Answer {
    dial_with(protocol, target.parse().unwrap(), &patient())
}

/// The name of the server that answered, or what happened in its place: `Refused`.
pub(crate) fn who(answer: &Answer) -> String {
    answer.name().map_or_else(|| format!("{answer:?}"), str::to_owned)
}

/// Who answers at a target.
pub(crate) fn asked(protocol: Protocol, target: &str) -> String {
    who(&dial(protocol, target))
}

/// An error as the command prints it: the message, and the next step on a line of its own.
pub(crate) fn told(error: &Error) -> String {
    let fix = error.remedy().map(|fix| format!("\nfix: {fix}"));
    format!("{error}{}", fix.unwrap_or_default())
}

/// Any free port of every address: a dual-stack socket.
pub(crate) fn anywhere() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, 0).into()
}

/// A dual-stack receiver for each protocol, named as its service.
pub(crate) struct Receiver {
    pub(crate) tcp: TcpServer,
    pub(crate) udp: UdpServer,
}

impl Receiver {
    pub(crate) fn new(name: &str) -> Self {
        Self { tcp: TcpServer::spawn(name, anywhere()).unwrap(), udp: UdpServer::spawn(name, anywhere()).unwrap() }
    }

    /// One that the service of its name has.
    pub(crate) fn of(instance: &mut Instance, name: &str) -> Self {
        let receiver = Self::new(name);
        instance.register(name, &receiver.tcp).unwrap();
        instance.register(name, &receiver.udp).unwrap();
        receiver
    }
}

/// Whether threads beside the test should go on. They end with the guard, also when the test fails.
pub(crate) struct Running(AtomicBool);

pub(crate) struct RunningGuard<'a>(&'a Running);

impl Running {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn guard(&self) -> RunningGuard<'_> {
        RunningGuard(self)
    }
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// Everything below a directory, in order.
pub(crate) fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            }
            found.push(name);
        }
    }
    let mut found = Vec::new();
    walk(dir, "", &mut found);
    // A kernel with CONFIG_BPF_PRELOAD puts two iterators of its own into every bpffs.
    found.retain(|name| !["maps.debug", "progs.debug"].contains(&name.as_str()));
    found.sort();
    found
}

/// What the bpffs holds when there is one instance with one generation and nothing else. Where the program notes where
/// flows ask, that is what answers leave by, on the one interface of the world.
pub(crate) fn tree_of_one(world: &World, number: u64) -> Vec<String> {
    let instance = format!("inlet/netns-{}", Netns::own().unwrap().cookie());
    let files =
        ["meta", "sockets", "lanes", "counters", "binds", "flow-key", "own-ports", "watch", "link"].map(str::to_owned);
    let generation = format!("gen-{number}");
    let parts = ["image", "program", "previous"].into_iter().filter(|part| number > 1 || *part != "previous");
    let parts: Vec<String> = parts.map(|part| format!("{generation}/{part}")).collect();
    let mut all = vec!["inlet".to_owned(), instance.clone(), format!("{instance}/{generation}")];
    if world.bpffs.path().join(format!("{instance}/{generation}/answers")).exists() {
        let answers = world.bpffs.path().join(format!("{instance}/answers"));
        // A kernel before 6.6 has filters in place of links.
        let on_interface = if answers.join("filter-1").exists() { "filter-1" } else { "port-1" };
        let names = [
            "flows",
            "bound",
            "counters",
            "covered",
            "changes",
            "handed",
            "client-ports",
            "asking",
            "clients",
            "send4",
            "send6",
            "port",
            on_interface,
        ];
        let below = names.map(|name| format!("{instance}/answers/{name}"));
        all.extend(
            [format!("{instance}/{generation}/answers"), format!("{instance}/answers")].into_iter().chain(below),
        );
    }
    all.extend(files.iter().chain(&parts).map(|file| format!("{instance}/{file}")));
    all.sort();
    assert!(world.bpffs.path().is_dir());
    all
}
