//! The command is killed (SIGKILL) at random moments, the watcher too: no socket loses its place, and no packet meets
//! anything but its socket.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use inlet_testkit::{Dial, Program, TcpServer, UdpServer, dial_tcp, dial_udp};
use rustix::process::Signal;

use crate::{Host, LISTEN, PATIENCE, at, host, sockets, wait_for_sockets, wait_until};

const ROUNDS: usize = 16;
/// Between two packets of one sender.
const PAUSE: Duration = Duration::from_millis(5);

/// Small, and good enough to choose moments.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    /// A part of a time, and sometimes a little more than all of it.
    fn part_of(&mut self, longest: Duration) -> Duration {
        // Xorshift (Marsaglia).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        longest.mul_f64((self.0 % 1000) as f64 / 900.0)
    }
}

fn start(host: &Host, args: &[&str]) -> Program {
    Program::start(host.command(args).stdout(Stdio::null())).unwrap()
}

/// Starts a command and kills it after a time; whether it was still at work.
fn kill_after(host: &Host, args: &[&str], time: Duration) -> bool {
    let mut program = start(host, args);
    thread::sleep(time);
    let _ = program.signal(Signal::KILL);
    let status = program.wait_exit(PATIENCE).unwrap().unwrap();
    assert!(status.success() || status.code().is_none(), "{args:?}: {status}");
    !status.success()
}

/// How long a command takes to its end.
fn time(host: &Host, args: &[&str]) -> Duration {
    let began = Instant::now();
    host.ok(args);
    began.elapsed()
}

/// Asks until told to end. Nothing but an answer is expected, ever.
fn ask_until(end: &AtomicBool, protocol: &str, number: u16) -> usize {
    let how = Dial::new().timeout(PATIENCE);
    let mut asked = 0;
    while !end.load(Ordering::Relaxed) {
        let answer = match protocol {
            "tcp" => dial_tcp(at(&format!("192.0.2.7:{}", 1000 * number + 1)), &how),
            _ => dial_udp(at("192.0.2.7:53"), &how),
        };
        assert_eq!(answer.name(), Some(protocol), "question {asked}: {answer:?}");
        asked += 1;
        thread::sleep(PAUSE);
    }
    asked
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Describes the servers' sockets.
const SET: [&str; 7] = ["service", "set", "web", "--listen", "tcp:127.0.0.1:8080", "--listen", "udp:127.0.0.1:8080"];

/// One more address: a change in every round, whatever came of the one before.
fn set<'a>(more: &'a [&'a str; 2]) -> Vec<&'a str> {
    [&SET[..], more].concat()
}

fn kill_all_kinds(host: &Host) {
    let change = time(host, &set(&["--listen", "tcp:127.0.0.1:8999"]));
    let adopt = time(host, &["adopt"]);
    let mut random = Random::new();
    let mut killed = [0; 3];
    for round in 0..ROUNDS {
        let listen = format!("tcp:127.0.0.1:{}", 9000 + round);
        let more = ["--listen", listen.as_str()];
        let commands = [(vec!["watch"], adopt), (set(&more), change), (vec!["adopt"], adopt)];
        for (kind, (args, longest)) in commands.iter().enumerate() {
            killed[kind] += usize::from(kill_after(host, args, random.part_of(*longest)));
            assert_eq!(sockets(host), 2, "round {round}, after {args:?}: {}", host.ok(&["status"]));
        }
    }
    assert!(killed.iter().all(|count| *count > 0), "killed at work: {killed:?}");
    println!("killed at work: watch {}, service set {}, adopt {} of {ROUNDS}", killed[0], killed[1], killed[2]);
}

#[test]
fn no_registration_is_lost() {
    let Some(host) = host(&["tcp:127.0.0.1:8080"]) else { return };
    host.ok(&["bind", "web", "udp", "192.0.2.0/24", "53"]);
    let tcp = TcpServer::spawn("tcp", at(LISTEN)).unwrap();
    let udp = UdpServer::spawn("udp", at(LISTEN)).unwrap();
    host.ok(&SET);
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = End(&end);
        let end = &end;
        let asking: Vec<_> = [("tcp", 1), ("tcp", 2), ("udp", 3), ("udp", 4)]
            .map(|(protocol, number)| scope.spawn(move || ask_until(end, protocol, number)))
            .into();
        kill_all_kinds(&host);
        drop(ending);
        let asked: usize = asking.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("{asked} questions, all answered");
    });
    // The next commands find all in order, and so do the next sockets.
    host.ok(&SET);
    assert_eq!(host.ok(&["adopt"]).matches(", known").count(), 2);
    drop((tcp, udp));
    wait_for_sockets(&host, 0);
    let _watching = start(&host, &["watch"]);
    wait_until("the watcher", || host.json(&["status"])["watched"] == true);
    let _tcp = TcpServer::spawn("new-tcp", at(LISTEN)).unwrap();
    assert_eq!(dial_tcp(at("192.0.2.7:443"), &Dial::new().timeout(PATIENCE)).name(), Some("new-tcp"));
    let _udp = UdpServer::spawn("new-udp", at(LISTEN)).unwrap();
    wait_for_sockets(&host, 2);
    assert_eq!(dial_udp(at("192.0.2.7:53"), &Dial::new().timeout(PATIENCE)).name(), Some("new-udp"));
}
