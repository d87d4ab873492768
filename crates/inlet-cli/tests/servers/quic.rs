//! A QUIC server, unmodified and bound to any address: ngtcp2's, which serves files by HTTP/3. It answers at every port of
//! a prefix, and a new version of it takes over while connections live.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::thread;

use inlet_testkit::{Namespace, Program, Proto, output, require_program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::{Host, PATIENCE, outside, wait_until};

const PREFIXES: [[&str; 2]; 2] = [["192.0.2.0/24", "192.0.2.7"], ["2001:db8::/64", "2001:db8::7"]];
/// Connections that live while the new version comes.
const LIVE: u16 = 200;
/// More than a pipe takes, so that a client whose pipe nobody reads is in the midst of it.
const PAGE: usize = 300_000;

/// A host whose service `web` has every port of both prefixes, and where its clients are.
fn host(sticky: &str) -> Option<(Host, Namespace)> {
    let host = Host::up()?;
    let outside = outside(&host, PREFIXES.map(|[prefix, _]| prefix));
    for [prefix, _] in PREFIXES {
        host.ok(&["bind", "web", "udp", prefix, "any"]);
    }
    host.ok(&["service", "set", "web", "--sticky", sticky]);
    ["gtlsserver", "gtlsclient", "openssl"].into_iter().all(require_program).then_some((host, outside))
}

/// A server, its certificate and its page, which has its letter all over.
struct Version {
    daemon: Daemon,
    _site: TempDir,
}

impl Version {
    /// Starts one with a socket for each family, and gives both to the service.
    fn start(host: &Host, letter: u8, port: &str) -> Self {
        let site = TempDir::new().unwrap();
        fs::write(site.path().join("page"), vec![letter; PAGE]).unwrap();
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        make.args(["-keyout", "key", "-out", "cert", "-subj", "/CN=web.example"]).current_dir(site.path());
        assert!(output(&mut make).unwrap().status.success());
        let mut command = Command::new("gtlsserver");
        command.args(["--quiet", "--htdocs=.", "--timeout=300s", "*", port, "key", "cert"]).current_dir(site.path());
        let mut daemon = Daemon::start(site.path(), &mut command);
        daemon.wait_listening(Proto::Udp, &format!("0.0.0.0:{port}"));
        let [v4, v6] = [format!("udp:0.0.0.0:{port}"), format!("udp:[::]:{port}")];
        let register = ["register", "web", "--pid", &daemon.id().to_string(), "--listen", &v4, "--listen", &v6];
        // It makes one socket after the other.
        wait_until("both sockets of the server", || host.run(&register).code == Some(0));
        Self { daemon, _site: site }
    }

    fn pid(&self) -> String {
        self.daemon.id().to_string()
    }
}

/// A client that gets the page, into a pipe.
struct Client {
    _program: Program,
    page: File,
    _dir: TempDir,
}

impl Client {
    /// Number by number the clients ask other ports, of both families.
    fn start(outside: &Namespace, number: u16, timeout: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let pipe = dir.path().join("page");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // Without this flag it would wait for the client, which may never come.
        let page = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&pipe).unwrap();
        let [_, address] = PREFIXES[usize::from(number) % 2];
        let mut command = Command::new("gtlsclient");
        command.args(["--quiet", "--exit-on-all-streams-close", timeout, "--download"]).arg(dir.path());
        command.args([address, &(400 + number).to_string(), "https://web.example/page"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _program: outside.enter(|| Program::start(&mut command).unwrap()), page, _dir: dir }
    }

    fn many(outside: &Namespace, numbers: std::ops::Range<u16>, timeout: &str) -> Vec<Self> {
        numbers.map(|number| Self::start(outside, number, timeout)).collect()
    }

    /// Waits until the page begins to come.
    fn wait(&self) {
        let long = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.page, PollFlags::IN)], Some(&long)).unwrap();
        assert_eq!(ready, 1, "no answer to a client of QUIC");
    }

    /// All of the page that comes.
    fn read(&mut self) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            match self.page.read(&mut part) {
                Ok(0) => return all,
                Ok(length) => all.extend(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.page, PollFlags::IN)], None).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// How many clients get all of the page with this letter; they read at once.
fn whole(clients: &mut [Client], letter: u8) -> usize {
    clients.iter().for_each(Client::wait);
    thread::scope(|scope| {
        let readers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.read())).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).filter(|page| *page == vec![letter; PAGE]).count()
    })
}

#[test]
fn a_restart_with_overlap_loses_no_connection() {
    let Some((host, outside)) = host("120") else { return };
    let old = Version::start(&host, b'o', "5301");
    let mut live = Client::many(&outside, 0..LIVE, "--timeout=120s");
    live.iter().for_each(Client::wait);
    let new = Version::start(&host, b'n', "5302");
    let first = host.run(&["drain", "web", "--pid", &old.pid(), "--timeout", "0"]);
    assert_eq!(first.code, Some(3), "{first:?}");
    assert!(first.stdout.contains(&format!("{LIVE} flows left, ")), "{}", first.stdout);
    let mut more = Client::many(&outside, LIVE..LIVE + 20, "--timeout=120s");
    assert_eq!(whole(&mut more, b'n'), more.len());
    assert_eq!(whole(&mut live, b'o'), live.len());
    drop(live);
    // Nobody speaks to it any more.
    host.ok(&["service", "set", "web", "--sticky", "1"]);
    let done = host.run(&["drain", "web", "--pid", &old.pid(), "--timeout", "60"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    old.daemon.end(Signal::TERM);
    assert_eq!(whole(&mut Client::many(&outside, 0..10, "--timeout=120s"), b'n'), 10);
    drop(new);
}

/// What it costs where flows do not stay: told, so that nobody wonders.
#[test]
fn without_sticky_connections_are_lost() {
    const FEW: u16 = 60;
    let Some((host, outside)) = host("0") else { return };
    let old = Version::start(&host, b'o', "5301");
    let mut live = Client::many(&outside, 0..FEW, "--timeout=5s");
    live.iter().for_each(Client::wait);
    let new = Version::start(&host, b'n', "5302");
    let kept = whole(&mut live, b'o');
    println!("{} of {FEW} connections of QUIC lost when a second server came, without sticky", live.len() - kept);
    assert!(kept < live.len(), "{kept}");
    drop((old, new));
}
