//! Services that find their sockets by a description.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use inlet_testkit::{Dial, Program, Proto, TcpServer, as_user, dial_tcp, dial_udp, output};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Host, PATIENCE, at, is_error};

const SOCAT: [&str; 3] = ["socat", "TCP-LISTEN:18090,bind=127.0.0.1,fork,reuseaddr", "SYSTEM:echo found"];

fn run(host: &Host, args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
    command.arg("--bpffs").arg(host.world.bpffs.path()).args(args);
    Program::start(&mut command).unwrap()
}

#[test]
fn a_command_has_its_sockets_while_it_runs() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    for listen in [&["--listen", "tcp:127.0.0.1:18090"][..], &[]] {
        let mut ran = run(&host, &[&["run", "web"], listen, &["--"], &SOCAT].concat());
        ran.wait_listening(Proto::Tcp, at("127.0.0.1:18090"), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        let mut answer = String::new();
        // The kernel lists a listener a moment before its listen() returns.
        let until = Instant::now() + PATIENCE;
        let mut client = loop {
            match TcpStream::connect("192.0.2.9:4711") {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < until, "{error}: {}", host.ok(&["status"])),
            }
        };
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "found\n", "{listen:?}");
        let described = &host.json(&["services"])[0]["described"];
        let meant = listen.last().copied().unwrap_or("tcp:*:*");
        assert_eq!(described["listen"][0], meant);
        assert!(described["cgroup"].as_str().unwrap().contains("/inlet-run-"));
        // The signal goes on to the command, and its end is the end of both.
        ran.signal(Signal::TERM).unwrap();
        assert_eq!(ran.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(128 + 15), "{listen:?}");
        assert!(host.json(&["services"])[0]["described"].is_null(), "{listen:?}");
    }
    let mut ran = run(&host, &["run", "web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(ran.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(7));
    let mut ran = run(&host, &["run", "web", "--", "no-such-command"]);
    assert_eq!(ran.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(1));
    assert!(host.json(&["services"])[0]["described"].is_null());
}

#[test]
fn bind_to_an_address_describes_a_service() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let said = host.ok(&["bind", "--to", "tcp:127.0.0.1:18091", "tcp", "192.0.2.0/24", "80"]);
    assert!(said.contains("+ tcp 192.0.2.0/24 80 -> tcp:127.0.0.1:18091"), "{said}");
    let status = host.ok(&["status"]);
    assert!(status.contains("waiting for tcp:127.0.0.1:18091"), "{status}");
    let _server = TcpServer::spawn("web", at("127.0.0.1:18091")).unwrap();
    assert_eq!(dial_tcp(at("192.0.2.9:80"), &Dial::new().timeout(PATIENCE)).local(), Some(at("192.0.2.9:80")));
    assert!(!host.ok(&["status"]).contains("waiting"));
    assert!(host.ok(&["adopt"]).contains("known"));
    host.fails(
        &["service", "set", "other", "--listen", "tcp:*:18091"],
        "services other and tcp:127.0.0.1:18091 could both claim a socket at tcp:127.0.0.1:18091",
    );
}

/// Answers a datagram as the test kit's servers do, and then another one with another socket at the same address. It
/// ends by itself, for when the test fails. It reads the question first: socat ends when nobody takes what it got.
const TWO_ANSWERS: &str = "export ANSWER='found 127.0.0.1:18094 127.0.0.1:1'
for round in 1 2; do
    timeout 60 socat UDP-RECVFROM:18094,bind=127.0.0.1 'SYSTEM:head -c 1 >/dev/null; echo $ANSWER'
done";

#[test]
fn a_command_has_its_udp_sockets_as_it_binds_them() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "dns", "udp", "192.0.2.0/24", "53"]);
    let mut ran = run(&host, &["run", "dns", "--listen", "udp:127.0.0.1:18094", "--", "sh", "-c", TWO_ANSWERS]);
    let mut known = Value::Null;
    for round in ["first", "second"] {
        wait_for(|| {
            let cookie = service(&host, "dns")["sockets"][0]["cookie"].clone();
            !cookie.is_null() && std::mem::replace(&mut known, cookie.clone()) != cookie
        });
        let answer = dial_udp(at("192.0.2.9:53"), &Dial::new().timeout(PATIENCE));
        assert_eq!(answer.name(), Some("found"), "{round}: {answer:?}");
    }
    assert_eq!(ran.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(0));
    assert!(service(&host, "dns")["described"].is_null());
}

fn service(host: &Host, name: &str) -> Value {
    let services = host.json(&["services"]);
    services.as_array().unwrap().iter().find(|service| service["name"] == name).unwrap().clone()
}

fn sockets(host: &Host, name: &str) -> usize {
    service(host, name)["sockets"].as_array().unwrap().len()
}

/// Waits for a state of which no event tells.
#[track_caller]
fn wait_for(mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A process that outlives the test's command, and its control group, which go with this.
struct Left {
    pid: Pid,
    group: PathBuf,
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let until = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.group).is_err() && Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_a_command_leaves_behind_is_told() {
    let Some(host) = Host::up() else { return };
    host.ok(&["service", "set", "web"]);
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
    command.arg("--bpffs").arg(host.world.bpffs.path()).args(["run", "web", "--", "sh", "-c", script]);
    let ran = output(&mut command).unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let pid: i32 = stdout.trim().parse().unwrap();
    let path = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = path.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let root =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap().split(' ').nth(1).unwrap();
    let left = Left { pid: Pid::from_raw(pid).unwrap(), group: PathBuf::from(format!("{root}{path}")) };
    assert_eq!(ran.status.code(), Some(0), "{stderr}");
    assert!(path.contains("/inlet-run-") && stderr.lines().count() == 2, "{path}: {stderr}");
    let told =
        format!("note: the command left processes behind in control group {path}, and service web keeps their sockets");
    assert!(stderr.starts_with(&told), "{stderr}");
    assert!(stderr.ends_with("; when they have ended: inlet service set web --by-hand\n"), "{stderr}");
    assert_eq!(service(&host, "web")["described"]["cgroup"], path);
    drop(left);
    host.ok(&["service", "set", "web", "--by-hand"]);
}

fn described_by(confine: &str) -> String {
    format!("rules = []\n[services.web]\nlisten = \"tcp:127.0.0.1:18095\"\n{confine}\n")
}

#[test]
fn apply_refuses_what_is_not_there_unless_it_comes_later() {
    let Some(host) = Host::up() else { return };
    let cases = [
        ("unit = \"no-such.service\"", "no running unit no-such.service"),
        ("cgroup = \"/no/such\"", "no control group /no/such"),
        ("user = \"no-such-user\"", "unknown user \"no-such-user\""),
    ];
    for (confine, message) in cases {
        let file = described_by(confine);
        let plan = host.feed(&["plan", "-", "--json"], &file);
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        assert_eq!(plan["warnings"][0]["kind"], "not_there", "{confine}");
        assert!(plan["warnings"][0]["reason"].as_str().unwrap().starts_with(message), "{plan}");
        let refused = host.apply(&file);
        assert_eq!(refused.code, Some(1), "{confine}");
        assert!(refused.stderr.starts_with(&format!("error: {message}")), "{}", refused.stderr);
        assert!(refused.stderr.contains("--later") && is_error(&refused.stderr), "{}", refused.stderr);
        assert!(
            host.json(&["services"])
                .as_array()
                .unwrap()
                .iter()
                .all(|it| it["described"][confine.split(' ').next().unwrap()].is_null())
        );
        assert_eq!(host.feed(&["apply", "--later", "-"], &file).code, Some(0), "{confine}");
        // What is in force already is not looked up again: a unit may stop.
        assert_eq!(host.apply(&file).code, Some(0), "{confine}");
    }
    host.fails(&["service", "set", "web", "--listen", "tcp:*:1", "--uid", "no-such-user"], "give --later");
    host.ok(&["service", "set", "web", "--listen", "tcp:*:1", "--uid", "no-such-user", "--later"]);
}

/// The host's users, and one more whose number is this.
const GHOST: u32 = 54321;

/// A listener of the user.
fn ghost_listens() -> Program {
    let mut command = Command::new("socat");
    command.args(["TCP-LISTEN:18096,bind=127.0.0.1,fork,reuseaddr", "SYSTEM:echo found"]);
    as_user(&mut command, GHOST, GHOST, &[]);
    let mut program = Program::start(&mut command).unwrap();
    program.wait_listening(Proto::Tcp, at("127.0.0.1:18096"), PATIENCE).unwrap();
    program
}

/// At boot the servers start after the rules, so nobody needs to hear that they are not there yet.
#[test]
fn what_comes_later_is_no_warning() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let warns = |service: &str, port: u16, later: &[&str]| {
        let rule = format!("{{ to = \"web\", protocol = \"tcp\", local = \"192.0.2.0/24\", ports = {port} }}");
        let text = format!("services.web = {service}\nrules = [{rule}]\n");
        let ran = host.feed(&[&["apply", "-"], later].concat(), &text);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout.contains("no live socket")
    };
    let described = "{ listen = \"tcp:127.0.0.1:8080\", user = \"root\" }";
    assert!(warns(described, 80, &[]));
    assert!(!warns(described, 81, &["--later"]));
    assert!(warns("{}", 82, &["--later"]));
}

#[test]
fn a_user_that_is_gone_keeps_nobody_from_changing_the_rules() {
    let Some(host) = Host::up() else { return };
    // In the mount namespace of this test only.
    let (dir, users) = (tempfile::tempdir().unwrap(), fs::read_to_string("/etc/passwd").unwrap());
    let passwd = dir.path().join("passwd");
    let with_ghost = format!("{users}ghost:x:{GHOST}:{GHOST}::/:/bin/false\n");
    fs::write(&passwd, &with_ghost).unwrap();
    assert!(output(Command::new("mount").arg("--bind").arg(&passwd).arg("/etc/passwd")).unwrap().status.success());

    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    host.ok(&["bind", "other", "tcp", "192.0.2.0/24", "81"]);
    host.ok(&["service", "set", "web", "--listen", "tcp:127.0.0.1:18096", "--user", "ghost"]);
    let first = ghost_listens();
    wait_for(|| sockets(&host, "web") == 1);
    fs::write(&passwd, &users).unwrap();
    // A commit that is interrupted (where the build has fault points): whoever comes next finishes it.
    let mut interrupted = host.command(&["service", "set", "other", "--listen", "tcp:127.0.0.1:18097"]);
    let _ = output(interrupted.env("INLET_FAULT", "commit:swapped")).unwrap();
    host.ok(&["bind", "other", "tcp", "192.0.2.0/24", "82"]);
    host.ok(&["adopt"]);
    let status = host.ok(&["status"]);
    assert!(status.contains("finds nothing: there is no user ghost\n"), "{status}");
    assert!(service(&host, "web")["described"]["problem"].as_str().unwrap().starts_with("there is no user ghost"));
    // What it had it keeps, and the others get what they want.
    assert_eq!(sockets(&host, "web"), 1);
    let _other = TcpServer::spawn("other", at("127.0.0.1:18097")).unwrap();
    assert_eq!(dial_tcp(at("192.0.2.9:82"), &Dial::new().timeout(PATIENCE)).name(), Some("other"));
    assert!(service(&host, "other")["described"]["problem"].is_null());
    drop(first);
    let second = ghost_listens();
    wait_for(|| sockets(&host, "web") == 0);
    fs::write(&passwd, &with_ghost).unwrap();
    assert!(host.ok(&["adopt"]).contains("-> web"));
    assert_eq!(sockets(&host, "web"), 1);
    assert!(!host.ok(&["status"]).contains("finds nothing"));
    drop(second);
}
