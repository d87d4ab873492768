//! dnsmasq and unbound: servers of both protocols, whose UDP sockets `inlet watch` finds as they are bound.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use inlet_testkit::{Program, Proto, require_program};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, at, conf, host, wait_for_sockets, wait_until};

const LISTEN: &str = "127.0.0.1:5300";
const TARGET: &str = "192.0.2.7:53";
const ID: [u8; 2] = [0x1e, 0x7a];
/// The one name that the servers know, as a question has it, and the text that it has.
const NAME: &[u8] = b"\x03who\x07example\x00";
pub(crate) const TEXT: &str = "here";

/// A question for the text of the name (RFC 1035, 4.1).
pub(crate) fn question() -> Vec<u8> {
    const RECURSION: [u8; 2] = [1, 0];
    const ONE_QUESTION: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
    const TXT_IN: [u8; 4] = [0, 16, 0, 1];
    [&ID[..], &RECURSION, &ONE_QUESTION, NAME, &TXT_IN].concat()
}

#[track_caller]
pub(crate) fn assert_answers(answer: &[u8], about: &str) {
    let text = [&[TEXT.len() as u8], TEXT.as_bytes()].concat();
    let is_answer = answer.starts_with(&ID) && answer[2] & 0x80 != 0 && answer[3] & 0x0f == 0;
    assert!(is_answer && answer.windows(text.len()).any(|part| part == text), "{about}: {answer:?}");
}

/// Asks over UDP, and takes an answer from the address and port asked alone.
pub(crate) fn ask_udp(target: SocketAddr) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(target).unwrap();
    socket.send(&question()).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    answer[..length].to_vec()
}

/// Asks over TCP, where a length goes before each message.
pub(crate) fn ask_tcp(target: SocketAddr) -> Vec<u8> {
    let mut client = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = question();
    client.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat()).unwrap();
    let mut length = [0; 2];
    client.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    client.read_exact(&mut answer).unwrap();
    answer
}

fn watch(host: &Host) -> Program {
    let watching = Program::start(host.command(&["watch"]).stdout(Stdio::null())).unwrap();
    wait_until("the watcher", || host.json(&["status"])["watched"] == true);
    watching
}

/// Asks a server over both protocols, before and after it was killed and started again. It has so many sockets.
fn serves_both_protocols(program: &str, sockets: usize, start: impl Fn(&TempDir) -> Command) {
    let Some(host) = host(&[&format!("tcp:{LISTEN}"), &format!("udp:{LISTEN}")]) else { return };
    if !require_program(program) {
        return;
    }
    host.ok(&["bind", "web", "udp", "192.0.2.0/24", "53"]);
    let _watching = watch(&host);
    let dir = TempDir::new().unwrap();
    for round in ["first", "again"] {
        let mut daemon = Daemon::start(dir.path(), &mut start(&dir));
        daemon.wait_listening(Proto::Udp, LISTEN);
        daemon.wait_listening(Proto::Tcp, LISTEN);
        wait_for_sockets(&host, sockets);
        for _ in 0..4 {
            assert_answers(&ask_udp(at(TARGET)), round);
            assert_answers(&ask_tcp(at(TARGET)), round);
        }
        daemon.end(Signal::KILL);
        wait_for_sockets(&host, 0);
    }
}

#[test]
fn dnsmasq() {
    let args = ["--bind-interfaces", "--listen-address=127.0.0.1"];
    serves_both_protocols("dnsmasq", 2, |_| conf::dnsmasq(5300, TEXT, &args));
}

/// Each of its threads has sockets of its own (SO_REUSEPORT).
#[test]
fn unbound() {
    serves_both_protocols("unbound", 4, |dir| {
        let sockets = "num-threads: 2\n            so-reuseport: yes\n            interface: 127.0.0.1@5300";
        conf::unbound(dir.path(), TEXT, sockets)
    });
}
