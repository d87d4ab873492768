//! Many clients that ask a web server without end, each in a thread, and what each of them met and when.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{PATIENCE, at, wait_until};

/// What the servers answer.
pub(crate) const ANSWER: &str = "served";

/// Between two questions of a client.
const THINKING: Duration = Duration::from_millis(20);

/// Below the ports that the kernel chooses for clients, so that none connects to itself.
const PORTS: u16 = 32_000;

/// One question.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) met: Met,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Answered,
    /// Nobody listens there.
    Refused,
    /// A connection that was made, and then not served.
    Broken(io::ErrorKind),
}

/// Where clients go.
#[derive(Clone, Copy)]
enum Targets {
    One(SocketAddr),
    /// A port of this address after the other.
    EveryPort(IpAddr),
}

/// Running clients. They end with this, also when the test fails.
pub(crate) struct Clients {
    threads: Vec<JoinHandle<Vec<Attempt>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    end: AtomicBool,
    answered: AtomicUsize,
}

impl Clients {
    /// Clients of the address at which the server listens.
    pub(crate) fn direct(count: usize, addr: &str) -> Self {
        Self::start(count, Targets::One(at(addr)))
    }

    /// Clients of all ports of an address that a rule is about.
    pub(crate) fn steered(count: usize) -> Self {
        Self::start(count, Targets::EveryPort([192, 0, 2, 7].into()))
    }

    fn start(count: usize, targets: Targets) -> Self {
        let state = Arc::new(State::default());
        let client = |number: usize| {
            let state = state.clone();
            thread::spawn(move || ask_on(targets, number, &state))
        };
        Self { threads: (0..count).map(client).collect(), state }
    }

    /// Waits until so many more questions were answered.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self, count: usize) {
        let until = self.state.answered.load(Ordering::Relaxed) + count;
        wait_until("answers", || self.state.answered.load(Ordering::Relaxed) >= until);
    }

    /// Ends them; all that they met.
    pub(crate) fn end(mut self) -> Vec<Attempt> {
        self.state.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).flat_map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.state.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Those that were not answered.
pub(crate) fn failures(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts.iter().filter(|attempt| attempt.met != Met::Answered).collect()
}

fn ask_on(targets: Targets, number: usize, state: &State) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while !state.end.load(Ordering::Relaxed) {
        let attempt = ask(match targets {
            Targets::One(addr) => addr,
            // A prime stride visits all ports; the clients begin at places of their own.
            Targets::EveryPort(ip) => SocketAddr::new(ip, port(number * 641 + attempts.len() * 7_919)),
        });
        if attempt.met == Met::Answered {
            state.answered.fetch_add(1, Ordering::Relaxed);
        }
        attempts.push(attempt);
        thread::sleep(THINKING);
    }
    attempts
}

fn port(place: usize) -> u16 {
    (place % usize::from(PORTS)) as u16 + 1
}

/// Asks once.
pub(crate) fn ask(addr: SocketAddr) -> Attempt {
    let begun = Instant::now();
    let met = match TcpStream::connect_timeout(&addr, PATIENCE) {
        Ok(connection) => exchange(connection).map_or_else(|error| Met::Broken(error.kind()), |()| Met::Answered),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Met::Refused,
        Err(error) => Met::Broken(error.kind()),
    };
    Attempt { begun, ended: Instant::now(), met }
}

fn exchange(mut connection: TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET / HTTP/1.0\r\nHost: web.example\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.") && answer.ends_with(ANSWER) {
        true => Ok(()),
        // Closed before all of the answer came.
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
