//! Much of the same: writers and readers that are killed, registrations, listens, floods of connections. A little of each
//! in a normal run, and as much as scripts/soak says with INLET_SOAK=1. Each test prints a line for its table. Needs
//! root.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

#[path = "common/host.rs"]
mod host;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::{Host, PATIENCE, at};
use inlet_testkit::{Answer, Dial, TcpServer, dial_tcp, output};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// How often something is done: so often in a normal run, or in a soak.
fn count(normal: u64, soak: u64) -> u64 {
    let scale = std::env::var("INLET_SOAK_PERCENT").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    if std::env::var_os("INLET_SOAK").is_some() { (soak * scale / 100).max(1) } else { normal }
}

fn row(what: &str, done: String, begun: Instant) {
    let _ = writeln!(std::io::stdout(), "soak: {what}: {done} in {:.0} s", begun.elapsed().as_secs_f64());
}

/// The command, for threads that are born into the surroundings of a test.
struct Tool(PathBuf);

impl Tool {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
        command.args(args).arg("--bpffs").arg(&self.0);
        command
    }

    fn ok(&self, args: &[&str]) {
        let output = output(&mut self.command(args)).unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

/// A rule for a server that every test leaves alone, and a dialer that always gets it.
struct Kept {
    tool: Tool,
    goes_on: AtomicBool,
    dials: AtomicU64,
}

impl Kept {
    fn new(host: &Host) -> Self {
        host.world.local("192.0.2.0/24").unwrap();
        host.ok(&["service", "set", "kept", "--listen", "tcp:127.0.0.1:7001", "--user", "root"]);
        host.ok(&["bind", "kept", "tcp", "192.0.2.50", "80"]);
        let tool = Tool(host.world.bpffs.path().to_owned());
        Self { tool, goes_on: AtomicBool::new(true), dials: AtomicU64::new(0) }
    }

    fn dial(&self) {
        while self.goes_on.load(Ordering::Relaxed) {
            let answer = dial_tcp(at("192.0.2.50:80"), &Dial::new().timeout(PATIENCE));
            assert_eq!(answer.name(), Some("kept"), "a packet went astray: {answer:?}");
            self.dials.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does the work of several threads while somebody dials; gives how often he did.
    fn during(&self, threads: u64, work: impl Fn(&Tool, u64) + Sync) -> u64 {
        thread::scope(|scope| {
            let dialer = scope.spawn(|| self.dial());
            let work = &work;
            let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(&self.tool, number))).collect();
            let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            self.goes_on.store(false, Ordering::Relaxed);
            dialer.join().unwrap();
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
        self.dials.load(Ordering::Relaxed)
    }
}

fn assert_nothing_is_left(host: &Host) {
    host.ok(&["down"]);
    let left: Vec<_> = std::fs::read_dir(host.world.bpffs.path().join("inlet")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn writers_and_readers_that_are_killed() {
    let Some(host) = Host::up() else { return };
    let (begun, rounds) = (Instant::now(), count(3, 300));
    let _server = TcpServer::spawn("kept", at("127.0.0.1:7001")).unwrap();
    let kept = Kept::new(&host);
    let killed = AtomicU64::new(0);
    let dials = kept.during(32, |tool, number| {
        for round in 0..rounds {
            let (address, port) = (format!("192.0.2.{}", 100 + number / 2), 1000 + round % 7);
            let port = port.to_string();
            let args = match (number % 2, round % 2) {
                (0, 0) => vec!["bind", "--refuse", "tcp", &address, &port],
                (0, _) => vec!["unbind", "tcp", &address, &port],
                _ => vec!["rules", "--json"],
            };
            let mut child = tool.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            // Some end before, and some are killed at whatever they are doing then.
            if round % 3 != 2 {
                thread::sleep(Duration::from_millis((number * 7 + round * 13) % 40));
                child.kill().unwrap();
                killed.fetch_add(1, Ordering::Relaxed);
            }
            let output = child.wait_with_output().unwrap();
            if output.status.success() && number % 2 == 1 {
                let rules: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert!(rules.as_array().is_some_and(|rules| !rules.is_empty()), "{rules}");
            }
        }
    });
    host.ok(&["bind", "--refuse", "tcp", "192.0.2.99", "99"]);
    let rules = host.json(&["rules"]);
    assert!(rules.as_array().unwrap().len() >= 2, "{rules}");
    assert_nothing_is_left(&host);
    let killed = killed.into_inner();
    row("16 writers, 16 readers", format!("{} commands, {killed} of them killed, {dials} dials", 32 * rounds), begun);
}

#[test]
fn registrations() {
    let Some(host) = Host::up() else { return };
    let (begun, times) = (Instant::now(), count(30, 20_000));
    let _server = TcpServer::spawn("kept", at("127.0.0.1:7001")).unwrap();
    let kept = Kept::new(&host);
    host.ok(&["service", "set", "hand"]);
    host.ok(&["bind", "hand", "tcp", "192.0.2.51", "80"]);
    let _hand = TcpServer::spawn("hand", at("127.0.0.1:7002")).unwrap();
    let pid = std::process::id().to_string();
    let dials = kept.during(1, |tool, _| {
        for _ in 0..times / 2 {
            tool.ok(&["register", "hand", "--pid", &pid, "--listen", "tcp:127.0.0.1:7002"]);
            assert_eq!(dial_tcp(at("192.0.2.51:80"), &Dial::new().timeout(PATIENCE)).name(), Some("hand"));
            tool.ok(&["unregister", "hand"]);
            assert_eq!(dial_tcp(at("192.0.2.51:80"), &Dial::new().timeout(PATIENCE)), Answer::Refused);
        }
    });
    let status = host.json(&["status"]);
    assert_eq!((&status["sockets"], &status["generation"]), (&1.into(), &5.into()), "{status}");
    assert_nothing_is_left(&host);
    row("registrations", format!("{times}, each with a dial, {dials} dials beside"), begun);
}

/// Listens, as a server that starts anew does: the port of one that closed this moment may be in use for another one.
fn listen(own: SocketAddr, again: &AtomicU64) -> TcpListener {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(own) {
            Err(cause) if cause.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                again.fetch_add(1, Ordering::Relaxed);
            }
            listener => return listener.unwrap(),
        }
    }
}

#[test]
fn listens() {
    const THREADS: u64 = 4;
    let Some(host) = Host::up() else { return };
    let (begun, times) = (Instant::now(), count(2_000, 200_000));
    let _server = TcpServer::spawn("kept", at("127.0.0.1:7001")).unwrap();
    let kept = Kept::new(&host);
    for number in 0..THREADS {
        let (name, address) = (format!("s{number}"), format!("tcp:127.0.0.1:{}", 7100 + number));
        host.ok(&["service", "set", &name, "--listen", &address, "--user", "root"]);
        host.ok(&["bind", &name, "tcp", &format!("192.0.2.{}", 100 + number), "80"]);
    }
    let again = AtomicU64::new(0);
    let dials = kept.during(THREADS, |_, number| {
        let own: SocketAddr = format!("127.0.0.1:{}", 7100 + number).parse().unwrap();
        let asked: SocketAddr = format!("192.0.2.{}:80", 100 + number).parse().unwrap();
        for _ in 0..times / THREADS {
            // The first connection after listen() is the listener's.
            let listener = listen(own, &again);
            let client = TcpStream::connect_timeout(&asked, PATIENCE).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    });
    let status = host.json(&["status"]);
    assert_eq!(status["sockets"], 1, "{status}");
    for service in status["services"].as_array().unwrap().iter().filter(|service| service["name"] != "kept") {
        assert_eq!(service["counters"]["steered"], times / THREADS, "{service}");
        assert_eq!(service["refused"], serde_json::Value::Null, "{service}");
    }
    assert_nothing_is_left(&host);
    let again = again.into_inner();
    row("listens", format!("{times}, each with its first connection, {again} binds anew, {dials} dials beside"), begun);
}

/// Connections that nobody goes on with, as fast as they can be begun: who dials gets the server or, without syncookies,
/// may wait in vain, and nobody else.
#[test]
fn floods() {
    let Some(host) = Host::up() else { return };
    let (begun, times) = (Instant::now(), count(300, 30_000));
    let _server = TcpServer::spawn("kept", at("127.0.0.1:7001")).unwrap();
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["service", "set", "kept", "--listen", "tcp:127.0.0.1:7001", "--user", "root"]);
    host.ok(&["bind", "kept", "tcp", "192.0.2.50", "80"]);
    // Their SYN-ACKs get lost, so their requests stay in the queue.
    host.world.ip(&["route", "add", "blackhole", "198.18.0.0/15"]).unwrap();
    host.world.sysctl("net/ipv4/tcp_max_syn_backlog", "64").unwrap();
    let mut answered = Vec::new();
    for cookies in ["0", "1", "2"] {
        host.world.sysctl("net/ipv4/tcp_syncookies", cookies).unwrap();
        let flooding = AtomicBool::new(true);
        let good = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                for number in 0..times {
                    let socket =
                        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
                    sockopt::set_ip_freebind(&socket, true).unwrap();
                    let from = Ipv4Addr::from_bits(0xc612_0001 + number as u32);
                    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
                    let _ = connect(&socket, &at("192.0.2.50:80"));
                }
                flooding.store(false, Ordering::Relaxed);
            });
            let mut good = 0;
            while flooding.load(Ordering::Relaxed) || good == 0 {
                match dial_tcp(at("192.0.2.50:80"), &Dial::new().timeout(PATIENCE)) {
                    Answer::TimedOut if cookies == "0" => {}
                    answer => {
                        assert_eq!(answer.name(), Some("kept"), "syncookies {cookies}: {answer:?}");
                        good += 1;
                    }
                }
            }
            flood.join().unwrap();
            good
        });
        answered.push(format!("{good} with tcp_syncookies={cookies}"));
    }
    assert_nothing_is_left(&host);
    row("floods", format!("{times} each, answered {}", answered.join(", ")), begun);
}
