//! Own binds as the kernel does them: programs of a control group that bind what others bind, on every kernel. Tests of real
//! servers are those of the command.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{ChildStdin, Command, Stdio};

use common::{asked, here, open, snapshot, state, tree, up};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::rules::{Confine, Description, Listen};
use inlet::{Checker, Instance, ServiceRequest, Severity, UpOptions};
use inlet_testkit::{Cgroup, Program, TcpServer, UdpServer, World, output};

const NAME: &str = "INLET_OWN_NAME";
const PORT: u16 = 25_565;
/// The first and the last port that programs get when nobody says otherwise.
const RANGE: [u16; 2] = [61_000, 64_999];

/// A server in a control group: this same test program, with nothing but this test in it.
#[test]
fn child() {
    let Ok(name) = std::env::var(NAME) else { return };
    let both = |addr: &str| -> SocketAddr { format!("{addr}:{PORT}").parse().unwrap() };
    let tcp = TcpServer::spawn(&name, both("[::]")).unwrap();
    let [four, six] = ["0.0.0.0", "[::]"].map(both);
    let udp = UdpServer::spawn(&name, four).unwrap();
    let how = inlet_testkit::Listen::new().v6only();
    let udp6 = UdpServer::spawn_with(&name, six, how).unwrap();
    // A port that nobody asked for is the kernel's choice.
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let chosen = client.local_addr().unwrap().port();
    assert!(chosen < RANGE[0], "{chosen}");
    let twice = TcpListener::bind(four).map_err(|error| error.kind());
    assert_eq!(twice.err(), Some(std::io::ErrorKind::AddrInUse), "the same program asks for it twice");
    println!("\nbound {} {} {}", tcp.local_addr(), udp.local_addr(), udp6.local_addr());
    // Until the test ends, whatever its end is.
    let _ = std::io::stdin().read(&mut [0]);
}

struct Server {
    _end: ChildStdin,
    _program: Program,
    _cgroup: Cgroup,
}

/// Starts a server in a control group. It is bound when this returns.
fn server(name: &str, cgroup: Cgroup) -> Server {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(NAME, name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    cgroup.contain(&mut command).unwrap();
    let mut program = Program::start(&mut command).unwrap();
    let end = program.child().stdin.take().unwrap();
    let lines = BufReader::new(program.child().stdout.take().unwrap()).lines();
    let bound = lines.map(Result::unwrap).find(|line| line.starts_with("bound")).unwrap();
    assert_eq!(bound, format!("bound [::]:{PORT} 0.0.0.0:{PORT} [::]:{PORT}"));
    Server { _end: end, _program: program, _cgroup: cgroup }
}

fn describe(instance: &mut Instance, name: &str, cgroup: &Cgroup, own: bool) -> inlet::Result<inlet::Committed> {
    set(instance, name, &path(cgroup), own)
}

/// The path of a control group as a description names it.
fn path(cgroup: &Cgroup) -> String {
    format!("/{}", cgroup.path().file_name().unwrap().to_str().unwrap())
}

fn set(instance: &mut Instance, name: &str, path: &str, own: bool) -> inlet::Result<inlet::Committed> {
    let mut description = Description::new([Listen::ALL_TCP, Listen::ALL_UDP]).unwrap();
    (description.confine, description.own_binds) = (Some(Confine::Cgroup(path.parse().unwrap())), own);
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(&name.parse().unwrap(), request)
}

const GAMES: [&str; 2] = ["one", "two"];

/// A target of a game over IPv4, and one over IPv6.
fn targets(number: usize) -> [String; 2] {
    [format!("192.0.2.{}:{PORT}", number + 1), format!("[2001:db8::{}]:{PORT}", number + 1)]
}

fn with_games() -> Option<(World, Vec<Server>)> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let mut instance = up(&world);
    let cgroups = GAMES.map(|_| Cgroup::new().unwrap());
    for ((number, name), cgroup) in GAMES.iter().enumerate().zip(&cgroups) {
        describe(&mut instance, name, cgroup, true).unwrap();
        for protocol in [Tcp, Udp] {
            for target in targets(number) {
                let addr = target.parse::<SocketAddr>().unwrap().ip().to_string();
                common::bind(&mut instance, name, protocol, &addr, &PORT.to_string());
            }
        }
    }
    let servers = GAMES.iter().zip(cgroups).map(|(name, cgroup)| server(name, cgroup)).collect();
    instance.adopt().unwrap();
    Some((world, servers))
}

#[test]
fn each_gets_its_own_and_nothing_else() {
    let Some((world, servers)) = with_games() else { return };
    // Who is in none of the groups has the port, as ever, and gets what rules leave.
    let outside = TcpServer::spawn("outside", format!("[::]:{PORT}").parse().unwrap()).unwrap();
    for _ in 0..8 {
        for (number, name) in GAMES.iter().enumerate() {
            for target in targets(number) {
                assert_eq!(asked(Tcp, &target), *name, "tcp {target}");
                assert_eq!(asked(Udp, &target), *name, "udp {target}");
            }
        }
    }
    for name in GAMES {
        for socket in state(&world, name).sockets {
            let own = socket.own_port.unwrap();
            assert!((RANGE[0]..=RANGE[1]).contains(&own), "{own}");
            assert_eq!(socket.local.unwrap().addr().port(), PORT);
            for addr in ["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"] {
                let target = format!("{addr}:{own}");
                assert_eq!([asked(Tcp, &target), asked(Udp, &target)], ["Refused", "Refused"], "{target}");
            }
        }
    }
    assert_eq!(asked(Tcp, &format!("192.0.2.9:{PORT}")), "outside");
    assert_eq!(asked(Tcp, &targets(0)[0]), "one");
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, RANGE[1])).map_err(|error| error.kind());
    assert_eq!(taken.err(), Some(std::io::ErrorKind::AddrInUse));
    drop((servers, outside));
    Instance::down(&here(&world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
    drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, RANGE[1])).unwrap());
}

/// A service that is gone leaves its ports to others once its program has ended.
#[test]
fn ports_are_free_again() {
    let Some(world) = World::new() else { return };
    let range: inlet::rules::PortRange = "21000-21000".parse().unwrap();
    let options = UpOptions { own_ports: range, ..UpOptions::default() };
    let mut instance = Instance::up(here(&world), &options).unwrap();
    for round in 0..3 {
        let cgroup = Cgroup::new().unwrap();
        let name = format!("game{round}");
        describe(&mut instance, &name, &cgroup, true).unwrap();
        // All that it binds asks for one port, so one is enough.
        let server = server(&name, cgroup);
        assert_eq!(instance.adopt().unwrap().len(), 3, "{round}");
        drop(server);
        instance.remove_service(&name).unwrap();
        // What one can go back to keeps its ports.
        instance.set_service(&"other".parse().unwrap(), ServiceRequest::default()).unwrap();
        instance.remove_service("other").unwrap();
    }
}

const GREEDY: &str = "INLET_OWN_GREEDY";

/// A program in a control group that asks for many ports, until it gets no more. It says how many the kernel lists.
#[test]
fn greedy_child() {
    if std::env::var_os(GREEDY).is_none() {
        return;
    }
    let mut sockets = Vec::new();
    let refused = loop {
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7000 + sockets.len() as u16)) {
            Ok(socket) => sockets.push(socket),
            Err(error) => break error.kind(),
        }
    };
    let listed = std::fs::read_to_string("/proc/self/net/udp").unwrap();
    // 21000 to 21009, as proc_net_udp(5) writes them.
    let ports: std::collections::BTreeSet<_> =
        (21_000..=21_009).filter(|port| listed.contains(&format!(" 00000000:{port:04X} "))).collect();
    println!("\ngot {} {} {refused:?}", sockets.len(), ports.len());
}

/// When no port is left, more than bind() tells it.
#[test]
fn a_range_that_runs_out_is_told() {
    let Some(world) = World::new() else { return };
    let range: inlet::rules::PortRange = "21000-21009".parse().unwrap();
    drop(Instance::up(here(&world), &UpOptions { own_ports: range, ..UpOptions::default() }).unwrap());
    assert_eq!(snapshot(&world).own_ports().unwrap(), None);
    let cgroup = Cgroup::new().unwrap();
    describe(&mut open(&world), "greedy", &cgroup, true).unwrap();
    assert_eq!(snapshot(&world).own_ports().unwrap(), Some((range, 0)));
    let found = || {
        let found = Checker::new(here(&world)).check(None).unwrap().findings;
        found.into_iter().find(|it| it.code == "own-ports-full")
    };
    assert_eq!(found(), None);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "greedy_child", "--nocapture", "--test-threads=1"]).env(GREEDY, "1");
    cgroup.contain(&mut command).unwrap();
    let said = output(&mut command).unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).contains("\ngot 10 10 AddrInUse\n"), "{said:?}");
    assert_eq!(snapshot(&world).own_ports().unwrap(), Some((range, 10)));
    let found = found().unwrap();
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(found.what, "10 of the 10 ports for own binds (21000-21009) are taken");
}

#[test]
fn what_ends_own_binds() {
    let Some((world, servers)) = with_games() else { return };
    let mut instance = open(&world);
    for name in GAMES {
        let vague = describe(&mut instance, name, &Cgroup::new().unwrap(), false).unwrap_err();
        assert!(vague.to_string().contains("udp:*:* means the sockets of clients too"), "{vague}");
        let request = ServiceRequest { description: Some(None), ..ServiceRequest::default() };
        instance.set_service(&name.parse().unwrap(), request).unwrap();
    }
    drop((instance, servers));
    assert!(!snapshot(&world).ruleset().services().has_own_binds());
    assert!(!here(&world).dir().join("described").exists());
    drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, RANGE[0])).unwrap());
}

/// What the killed process runs.
#[test]
fn killed_child() {
    let Some((path, bpffs)) = common::killed::operation() else { return };
    let mut instance = Instance::open(common::at(&bpffs)).unwrap();
    set(&mut instance, "one", &path, true).unwrap();
}

#[cfg(feature = "faults")]
const STEPS: [&str; 11] = [
    "describe:directory",
    "describe:attached",
    "own:bind",
    "own:name",
    "commit:staged",
    "commit:pinned",
    "commit:swapped",
    "describe:pin",
    "describe:link",
    "own:freed",
    "commit:retired",
];

/// A kill at any step leaves what was or what is to be, and the next command goes on from there.
#[cfg(feature = "faults")]
#[test]
fn killed_at_every_step() {
    for step in STEPS {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        world.local("2001:db8::/64").unwrap();
        let mut instance = up(&world);
        for (protocol, target) in [(Tcp, "192.0.2.1/32"), (Udp, "192.0.2.1/32"), (Tcp, "2001:db8::1/128")] {
            common::bind(&mut instance, "one", protocol, target, &PORT.to_string());
        }
        drop(instance);
        let cgroup = Cgroup::new().unwrap();
        common::killed::killed(&world, "killed_child", &path(&cgroup), step, None);
        drop(open(&world));
        let described = snapshot(&world).ruleset().services().has_own_binds();
        let links = here(&world).dir().join("described");
        for link in ["own4", "own6", "name4", "name6"] {
            assert_eq!(links.join(link).exists(), described, "{step} {link}");
        }
        let mut instance = open(&world);
        describe(&mut instance, "one", &cgroup, true).unwrap();
        let server = server("one", cgroup);
        assert_eq!(instance.adopt().unwrap().len(), 3, "{step}");
        drop(instance);
        assert_eq!(asked(Tcp, "192.0.2.1:25565"), "one", "{step}");
        assert_eq!(asked(Udp, "192.0.2.1:25565"), "one", "{step}");
        assert_eq!(asked(Tcp, "[2001:db8::1]:25565"), "one", "{step}");
        drop(server);
        Instance::down(&here(&world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
    }
}
