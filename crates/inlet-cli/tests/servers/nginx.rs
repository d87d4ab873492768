//! nginx, with a master and workers: reloads under load refuse nobody, and restarts only while nobody listens.

use std::time::{Duration, Instant};

use inlet_testkit::require_program;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::clients::{ANSWER, Attempt, Clients, Met, ask, failures};
use crate::daemon::Daemon;
use crate::{LISTEN, at, conf, host, sockets, wait_until};

const WORKERS: usize = 2;
const CLIENTS: usize = 50;

/// An nginx of which one or none runs.
struct Nginx {
    dir: TempDir,
    server: String,
}

impl Nginx {
    fn new() -> Option<Self> {
        if !require_program("nginx") {
            return None;
        }
        let dir = TempDir::new().unwrap();
        let mut nginx = Self { dir, server: String::new() };
        nginx.answer(&format!("{LISTEN} backlog=512"), ANSWER);
        Some(nginx)
    }

    /// Configures where it listens and what it answers.
    fn answer(&mut self, listen: &str, answer: &str) {
        self.server = format!("listen {listen}; location / {{ return 200 \"{answer}\"; }}");
        // A reload reads it anew.
        conf::nginx(self.dir.path(), &self.server);
    }

    /// Starts it, and waits until it answers: that tells that its listen() has returned. The kernel's list of sockets,
    /// which has thousands of closed connections, would take long to read.
    fn start(&self) -> Daemon {
        let daemon = self.launch();
        wait_until("an answer of nginx", || ask(at(LISTEN)).met == Met::Answered);
        daemon
    }

    fn launch(&self) -> Daemon {
        Daemon::start(self.dir.path(), &mut conf::nginx(self.dir.path(), &self.server))
    }
}

#[test]
fn two_hundred_reloads_refuse_nobody() {
    let Some(host) = host(&[&format!("tcp:{LISTEN}")]) else { return };
    let Some(nginx) = Nginx::new() else { return };
    let daemon = nginx.start();
    let clients = Clients::steered(CLIENTS);
    clients.wait_for_answers(CLIENTS);
    for _ in 0..200 {
        daemon.reload(Signal::HUP, WORKERS);
    }
    clients.wait_for_answers(CLIENTS);
    let attempts = clients.end();
    let failures = failures(&attempts);
    println!("nginx: 200 reloads, {} of {} not answered", failures.len(), attempts.len());
    assert!(failures.is_empty(), "{failures:?}: {}", daemon.log());
    assert_eq!(sockets(&host), 1);
}

/// What nginx says of where it was asked is that only with a listener of all addresses; check tells of another.
#[test]
fn a_listener_of_one_address_is_told() {
    let Some(host) = host(&["tcp:*:8080"]) else { return };
    let code = "nginx-listens-at-one-address";
    let asked = |listen: &str| {
        let mut nginx = Nginx::new()?;
        nginx.answer(listen, "$server_addr $server_port\\n");
        let daemon = nginx.launch();
        wait_until("a listener of nginx", || std::net::TcpStream::connect(at(LISTEN)).is_ok());
        let answer = get(at("192.0.2.7:81"));
        let told = host.run(&["check", "--json"]).stdout.contains(code);
        daemon.end(Signal::QUIT);
        Some((answer, told))
    };
    let Some((answer, told)) = asked("8080") else { return };
    assert_eq!((answer.as_str(), told), ("192.0.2.7 81", false));
    assert_eq!(asked(LISTEN), Some(("127.0.0.1 8080".to_owned(), true)));
}

/// The body of an answer.
fn get(to: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut text = String::new();
    let mut connection = std::net::TcpStream::connect(to).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    connection.read_to_string(&mut text).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

/// A time in which there may be no listener: from the last moment at which one was there to the first at which one was
/// there again, both seen by clients who reach it directly.
struct Outage {
    begun: Instant,
    ended: Instant,
    exited: Instant,
}

impl Outage {
    /// Whether a question was, for a part of its time at least, in it.
    fn touches(&self, attempt: &Attempt) -> bool {
        attempt.ended >= self.begun && attempt.begun <= self.ended
    }

    /// How long the refusals in it went on.
    fn refused(&self, attempts: &[Attempt]) -> Duration {
        let refused = || attempts.iter().filter(|attempt| attempt.met == Met::Refused && self.touches(attempt));
        let (first, last) = (refused().map(|it| it.begun).min(), refused().map(|it| it.ended).max());
        first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
    }
}

/// Ends a server and starts another one; when it was, as far as this tells.
fn restart(nginx: &Nginx, daemon: Daemon) -> (Daemon, Outage) {
    let begun = Instant::now();
    daemon.end(Signal::QUIT);
    let exited = Instant::now();
    let daemon = nginx.start();
    (daemon, Outage { begun, ended: Instant::now(), exited })
}

#[test]
fn restarts_refuse_only_while_nobody_listens() {
    let Some(host) = host(&[&format!("tcp:{LISTEN}")]) else { return };
    let Some(nginx) = Nginx::new() else { return };
    let mut daemon = nginx.start();
    let (steered, direct) = (Clients::steered(CLIENTS), Clients::direct(CLIENTS / 5, LISTEN));
    let mut outages = Vec::new();
    for _ in 0..20 {
        steered.wait_for_answers(4 * CLIENTS);
        let (started, outage) = restart(&nginx, daemon);
        daemon = started;
        outages.push(outage);
    }
    steered.wait_for_answers(CLIENTS);
    let (steered, direct) = (steered.end(), direct.end());
    for outage in &mut outages {
        // Who was answered by the old server knows that it listened when the question began.
        let answered = direct.iter().filter(|attempt| attempt.met == Met::Answered && attempt.begun < outage.exited);
        outage.begun = answered.map(|attempt| attempt.begun).fold(outage.begun, Instant::max);
    }
    for (clients, attempts) in [("steered", &steered), ("direct", &direct)] {
        let failures = failures(attempts);
        let times: Vec<Duration> = outages.iter().map(|outage| outage.refused(attempts)).collect();
        let (sum, longest) = (times.iter().sum::<Duration>(), times.iter().max());
        println!(
            "nginx: 20 restarts, {clients}: {} of {} not answered, refused for {sum:?} in all, {longest:?} at most",
            failures.len(),
            attempts.len()
        );
        assert!(failures.iter().any(|attempt| attempt.met == Met::Refused), "{clients}: nobody was refused");
        let beyond: Vec<_> =
            failures.iter().filter(|attempt| !outages.iter().any(|outage| outage.touches(attempt))).collect();
        assert!(beyond.is_empty(), "{clients}, though somebody listened: {beyond:?}: {}", daemon.log());
    }
    assert_eq!(sockets(&host), 1);
}
