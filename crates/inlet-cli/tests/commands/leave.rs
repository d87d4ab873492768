//! A listener of all addresses loses a prefix to another program, then the rest, and gets it back, while clients
//! connect all the time. This is what docs/recipes/leave.md says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use inlet_testkit::{Answer, Dial, Listen, TcpServer, dial_tcp};

use crate::{Host, PATIENCE, at};

/// Addresses of the prefix that moves first, and of the rest.
const FIRST: [&str; 2] = ["192.0.2.7:443", "192.0.2.200:443"];
const REST: [&str; 2] = ["198.51.100.7:443", "198.51.100.9:443"];

/// What clients met.
#[derive(Default)]
struct Met {
    old: AtomicU64,
    new: AtomicU64,
    /// Anything but an answer of one of the two.
    refused: AtomicU64,
}

impl Met {
    fn add(&self, answer: &Answer) {
        let count = match answer.name() {
            Some("old") => &self.old,
            Some("new") => &self.new,
            _ => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn answers(&self) -> u64 {
        self.old.load(Ordering::Relaxed) + self.new.load(Ordering::Relaxed)
    }
}

/// Connects to these addresses until it is told to stop.
fn load(targets: &[SocketAddr], met: &Met, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        targets.iter().for_each(|target| met.add(&dial_tcp(*target, &Dial::new().timeout(PATIENCE))));
    }
}

/// Waits until so many more connections were answered.
fn some_more(met: &[&Met]) {
    let goals: Vec<u64> = met.iter().map(|met| met.answers() + 50).collect();
    let until = std::time::Instant::now() + PATIENCE * 3;
    while met.iter().zip(&goals).any(|(met, goal)| met.answers() < *goal) {
        assert!(std::time::Instant::now() < until, "clients are answered");
        thread::yield_now();
    }
}

fn asked(target: &str) -> Option<String> {
    dial_tcp(at(target), &Dial::new().timeout(PATIENCE)).name().map(str::to_owned)
}

#[test]
fn a_wildcard_is_left_under_load_and_nobody_is_refused() {
    let Some(host) = Host::up() else { return };
    for prefix in ["192.0.2.0/24", "198.51.100.0/24"] {
        host.world.local(prefix).unwrap();
    }
    let old = TcpServer::spawn_with("old", at("0.0.0.0:443"), Listen::new().workers(2)).unwrap();
    let _new = TcpServer::spawn_with("new", at("127.0.0.1:8443"), Listen::new().workers(2)).unwrap();
    host.ok(&["service", "set", "old", "--listen", "tcp:0.0.0.0:443"]);
    host.ok(&["service", "set", "new", "--listen", "tcp:127.0.0.1:8443"]);
    let plan = host.run(&["bind", "new", "tcp", "192.0.2.0/24", "443", "--dry-run"]);
    assert_eq!(plan.code, Some(3), "{plan:?}");
    assert!(plan.stdout.contains("loses tcp 192.0.2.0/24:443"), "{plan:?}");

    let (first, rest, stop) = (Met::default(), Met::default(), AtomicBool::new(false));
    let [to_first, to_rest] = [FIRST, REST].map(|targets| targets.map(at));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| load(&to_first, &first, &stop));
            scope.spawn(|| load(&to_rest, &rest, &stop));
        }
        // The clients are threads of this process, so their connections look like the session of its commands.
        let steps = || {
            some_more(&[&first, &rest]);
            host.ok(&["bind", "new", "tcp", "192.0.2.0/24", "443", "--force"]);
            assert_eq!([asked(FIRST[0]), asked(REST[0])].map(Option::unwrap), ["new", "old"]);
            some_more(&[&first, &rest]);
            host.ok(&["bind", "new", "tcp", "0.0.0.0/0", "443", "--force"]);
            assert_eq!([asked(FIRST[0]), asked(REST[0])].map(Option::unwrap), ["new", "new"]);
            some_more(&[&first, &rest]);
            host.ok(&["rollback", "--force"]);
            assert_eq!([asked(FIRST[0]), asked(REST[0])].map(Option::unwrap), ["new", "old"]);
            some_more(&[&first, &rest]);
            host.ok(&["unbind", "tcp", "192.0.2.0/24", "443", "--force"]);
            assert_eq!([asked(FIRST[0]), asked(REST[0])].map(Option::unwrap), ["old", "old"]);
            some_more(&[&first, &rest]);
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for met in [&first, &rest] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&met.refused), 0, "{} old, {} new", count(&met.old), count(&met.new));
        assert!(count(&met.old) > 50 && count(&met.new) > 50);
    }
    drop(old);
}
