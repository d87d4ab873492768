//! haproxy with a master, and a worker that shares the address among several listeners (SO_REUSEPORT): a reload, for
//! which the master runs itself anew, refuses nobody.

use inlet_testkit::{Proto, require_program};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::clients::{ANSWER, Clients, failures};
use crate::daemon::Daemon;
use crate::{LISTEN, conf, host, sockets, wait_for_sockets};

const RELOADS: usize = 12;
const LISTENERS: usize = 2;

fn start(dir: &TempDir) -> Daemon {
    let frontend = format!(
        "bind {LISTEN} shards {LISTENERS}
            http-request return status 200 content-type text/plain string {ANSWER}"
    );
    let mut daemon = Daemon::start(dir.path(), &mut conf::haproxy(dir.path(), &frontend));
    daemon.wait_listening(Proto::Tcp, LISTEN);
    daemon
}

#[test]
fn reloads_refuse_nobody() {
    let Some(host) = host(&[&format!("tcp:{LISTEN}")]) else { return };
    if !require_program("haproxy") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let daemon = start(&dir);
    wait_for_sockets(&host, LISTENERS);
    let clients = Clients::steered(50);
    clients.wait_for_answers(50);
    for _ in 0..RELOADS {
        daemon.reload(Signal::USR2, 1);
        clients.wait_for_answers(50);
    }
    let attempts = clients.end();
    let failures = failures(&attempts);
    println!("haproxy: {RELOADS} reloads, {} of {} not answered", failures.len(), attempts.len());
    assert!(failures.is_empty(), "{failures:?}: {}", daemon.log());
    assert_eq!(sockets(&host), LISTENERS);
}
