//! The server of grants: callers that mean no good get nothing, it is started by its socket, and it takes no file's place.

use std::fs::{self, File};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inlet_testkit::{Namespace, Program, TcpServer, as_user, output, require_program};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg};
use tempfile::TempDir;

use crate::host::{Host, PATIENCE, at, is_error};
use crate::{Granted, NOBODY, RULESET};

/// Sends bytes and descriptors, and gives what is answered.
fn exchange(connection: &OwnedFd, text: &[u8], passed: &[BorrowedFd<'_>]) -> String {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(passed)));
    }
    let _ = sendmsg(connection, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL);
    let mut bytes = [0; 16384];
    let got = recv(connection, &mut bytes, RecvFlags::empty()).map_or(0, |(_, got)| got);
    String::from_utf8_lossy(&bytes[..got]).into_owned()
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn callers_that_mean_no_good() {
    let Some(granted) = Granted::new("absent.service") else { return };
    let before = granted.host.ok(&["export"]);
    let requests = [
        "inlet 1\nregister\nservice=web",
        "inlet 1\nbind\nservice=web\nprotocol=tcp\nlocal=192.0.2.1\nports=80",
        "inlet 1\nunbind\nprotocol=tcp\nlocal=192.0.2.4\nports=80",
    ];
    let mut numbers = Numbers(7);
    let elsewhere = Namespace::new().unwrap();
    let foreign = elsewhere.enter(|| TcpServer::spawn("foreign", at("127.0.0.1:9")).unwrap());
    let (pipe, _writer) = std::io::pipe().unwrap();
    let file = File::open("/etc/passwd").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let all = [pipe.as_fd(), file.as_fd(), listener.as_fd(), connected.as_fd(), unix.as_fd(), foreign.as_fd()];
    // This test is root, to whom nothing is granted: whatever it asks, in whatever form, is refused.
    let mut readable = 0;
    for round in 0..300 {
        let Some(connection) = granted.connect() else { continue };
        let mut text = requests[numbers.below(requests.len())].as_bytes().to_vec();
        for _ in 0..numbers.below(4) {
            let at = numbers.below(text.len());
            match numbers.below(3) {
                0 => text[at] = numbers.below(256) as u8,
                1 => text.truncate(at.max(1)),
                _ => text.splice(at..at, std::iter::repeat_n(b'\n', numbers.below(9000))).for_each(drop),
            }
        }
        let passed: Vec<BorrowedFd<'_>> =
            (0..[0, 1, 3, 33, 200][numbers.below(5)]).map(|at| all[at % all.len()]).collect();
        let answer = exchange(&connection, &text, &passed);
        assert!(!answer.starts_with("done"), "round {round}: {answer}");
        readable += usize::from(answer.starts_with("refused"));
    }
    assert!(readable > 200, "{readable} of 300 were answered");
    // Many of one user that say nothing are in nobody else's way.
    let silent: Vec<OwnedFd> = (0..200).filter_map(|_| granted.connect()).collect();
    let began = Instant::now();
    granted.ok(&["bind", "web", "tcp", "192.0.2.7", "8001"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    granted.ok(&["unbind", "tcp", "192.0.2.7", "8001"]);
    drop(silent);
    // A thousand at once, each with as many sockets as go into a message; nobody reads before all have sent.
    let flood: Vec<OwnedFd> = (0..1000).filter_map(|_| granted.connect()).collect();
    assert!(flood.len() > 900, "{}", flood.len());
    for connection in &flood {
        let _ = send(connection, requests[1].as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
    let answers = flood.iter().map(|connection| {
        let mut bytes = [0; 16384];
        let got = recv(connection, &mut bytes, RecvFlags::empty()).map_or(0, |(_, got)| got);
        String::from_utf8_lossy(&bytes[..got]).into_owned()
    });
    assert!(answers.filter(|answer| answer.starts_with("done")).count() == 0);
    drop(flood);
    assert_eq!(granted.host.ok(&["export"]), before);
    granted.ok(&["bind", "web", "tcp", "192.0.2.7", "8001"]);
    let peak = granted.memory("VmHWM");
    assert!(peak < 64 * 1024, "{peak} kB at most");
    granted.wait_until("its descriptors are closed", || granted.open_files() < 40);
}

/// systemd holds the socket, and the server ends when nobody asks.
#[test]
fn it_is_started_by_its_socket() {
    let Some(host) = Host::up() else { return };
    if !require_program("systemd-socket-activate") {
        return;
    }
    let ran = host.apply(&RULESET.replace("UNIT", "absent.service"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("grantd.sock");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--seqpacket", "-l", socket.to_str().unwrap(), env!("CARGO_BIN_EXE_inlet"), "grantd", "--idle", "1"]);
    command.arg("--bpffs").arg(host.world.bpffs.path());
    let mut activated = Program::start(command.stderr(Stdio::null())).unwrap();
    let until = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = host.command(&["bind", "web", "tcp", "192.0.2.7", "8001", "--json"]);
    let output = output(as_user(command.env("INLET_GRANTD", &socket), NOBODY, NOBODY, &[])).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"by\": \"grantd\""), "{output:?}");
    assert!(host.ok(&["rules"]).contains("192.0.2.7"));
    assert!(activated.wait_exit(PATIENCE).unwrap().is_some(), "it ends");
}

/// A file, and the socket of a server that lives, stay; the socket of one that is gone is replaced.
#[test]
fn it_takes_no_files_place() {
    let Some(mut granted) = Granted::new("absent.service") else { return };
    let socket = granted.socket();
    let refused = |path: &std::path::Path, text: &str| {
        let ran = output(&mut granted.host.command(&["grantd", "--socket", path.to_str().unwrap()])).unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.code() == Some(1) && said.contains(text) && is_error(&said), "{said}");
    };
    let file = granted.dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    refused(&file, "there is something that is not a socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let stream = granted.dir.path().join("stream");
    let _listener = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    refused(&stream, "there is a socket that a program listens at");
    refused(&socket, "there is a socket that a program listens at");
    granted.ok(&["bind", "web", "tcp", "192.0.2.1", "80"]);

    granted.server.child().kill().unwrap();
    granted.server.wait_exit(PATIENCE).unwrap();
    assert!(socket.exists());
    let mut command = granted.host.command(&["grantd", "--socket", socket.to_str().unwrap()]);
    let _again = Program::start(command.stderr(Stdio::null())).unwrap();
    granted.wait_until("the server", || granted.connect().is_some());
    granted.ok(&["unbind", "tcp", "192.0.2.1", "80"]);
}
