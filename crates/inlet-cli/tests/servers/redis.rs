//! redis: a server whose clients keep their connections, killed and started again.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use inlet_testkit::{Proto, require_program};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{PATIENCE, at, host, wait_for_sockets};

const LISTEN: &str = "127.0.0.1:6379";

fn start(dir: &TempDir) -> Daemon {
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            "6379",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
            "--dir",
        ])
        .arg(dir.path());
    let mut daemon = Daemon::start(dir.path(), &mut command);
    daemon.wait_listening(Proto::Tcp, LISTEN);
    daemon
}

fn client() -> BufReader<TcpStream> {
    let client = TcpStream::connect_timeout(&at("192.0.2.7:6380"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(client)
}

fn say(client: &mut BufReader<TcpStream>, words: &str) -> String {
    client.get_mut().write_all(format!("{words}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

#[test]
fn redis() {
    let Some(host) = host(&[&format!("tcp:{LISTEN}")]) else { return };
    if !require_program("redis-server") {
        return;
    }
    let dir = TempDir::new().unwrap();
    for round in 0..3 {
        let daemon = start(&dir);
        wait_for_sockets(&host, 1);
        let (mut one, mut other) = (client(), client());
        assert_eq!(say(&mut one, &format!("SET round {round}")), "+OK");
        assert_eq!(say(&mut other, "INCR round"), format!(":{}", round + 1));
        daemon.end(Signal::KILL);
        wait_for_sockets(&host, 0);
    }
}
