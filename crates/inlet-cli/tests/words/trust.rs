//! What others on the host, and what fails in between, cannot do: keep a ruleset from going back, keep Inlet waiting,
//! get a service's packets without a word, or make a message say something else.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use inlet_testkit::{Program, Proto, TcpServer, as_user, output};
use rustix::process::Signal;

use crate::asked::{NOBODY, ok, until};
use crate::{Host, PATIENCE, at};

const ROUTES: &str = r#"{"routes": "manage", "services": {"web": {}},
    "rules": [{"to": "web", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 80}]}"#;
const REFUSED: &str = r#"{"services": {"web": {}},
    "rules": [{"verdict": "refuse", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 80}]}"#;

/// Somebody configures the network meanwhile, so that a route of the previous ruleset cannot be made any more.
#[test]
fn a_ruleset_goes_back_without_a_route_that_cannot_be_had() {
    let Some(host) = Host::up() else { return };
    host.world.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    host.world.ip(&["link", "set", "v0", "up"]).unwrap();
    host.world.ip(&["link", "set", "v1", "up"]).unwrap();
    ok(host.apply(ROUTES));
    let routes = host.ok(&["export"]);
    ok(host.feed(&["apply", "--confirm", "600", "-"], REFUSED));
    host.world.ip(&["addr", "add", "198.51.100.5/24", "dev", "v0"]).unwrap();
    let ran = host.run(&["rollback"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("note: it is in force without this: a local route for 198.51.100.0/24"),
        "{}",
        ran.stderr
    );
    assert_eq!(host.ok(&["export"]), routes);
    // Everything goes on from there.
    let ran = host.run(&["bind", "--refuse", "tcp", "192.0.2.1", "80"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("note: it is in force without this: "), "{}", ran.stderr);
    host.ok(&["unregister", "web"]);
    host.ok(&["down"]);
}

#[test]
fn nobody_without_rights_keeps_up_and_down_waiting() {
    let Some(host) = Host::up() else { return };
    let root = host.world.bpffs.path().join("inlet");
    let mut flock = Command::new("flock");
    flock
        .args(["--shared", "--no-fork"])
        .arg(&root)
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .stdout(Stdio::piped());
    let mut holder = Program::start(as_user(&mut flock, NOBODY, NOBODY, &[])).unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.child().stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"held\n");
    // Less than the time for which one waits for a lock.
    let begun = std::time::Instant::now();
    host.ok(&["down"]);
    host.ok(&["up"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
}

const SOCAT: [&str; 3] = ["socat", "TCP-LISTEN:18091,bind=127.0.0.1,fork,reuseaddr", "SYSTEM:echo found"];

/// The first run is killed and its command goes on: the second one has the service's packets.
#[test]
fn the_next_run_takes_over_from_one_that_was_killed() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    let run = |command: &[&str]| {
        let mut inlet = Command::new(env!("CARGO_BIN_EXE_inlet"));
        inlet.arg("--bpffs").arg(host.world.bpffs.path()).args(["run", "web", "--"]).args(command);
        Program::start(&mut inlet).unwrap()
    };
    let mut first = run(&["sleep", "600"]);
    let described = || host.json(&["services"])[0]["described"]["cgroup"].as_str().map(str::to_owned);
    until("the first run describes the service", || described().is_some());
    let (group, pid) = (described(), first.id());
    let children = format!("/proc/{pid}/task/{pid}/children");
    until("it runs the command", || !fs::read_to_string(&children).unwrap_or_default().is_empty());
    let child: i32 = fs::read_to_string(&children).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    // While it runs, nobody else can have its service.
    let mut other = run(&["true"]);
    assert_eq!(other.wait_exit(PATIENCE).unwrap().unwrap().code(), Some(1));
    assert_eq!(described(), group);
    first.signal(Signal::KILL).unwrap();
    first.wait_exit(PATIENCE).unwrap().unwrap();
    let mut second = run(&SOCAT);
    second.wait_listening(Proto::Tcp, at("127.0.0.1:18091"), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    until("the second run has the packets", || {
        let connection = std::net::TcpStream::connect("192.0.2.9:4712");
        connection.is_ok_and(|mut it| std::io::read_to_string(&mut it).is_ok_and(|text| text == "found\n"))
    });
    second.signal(Signal::TERM).unwrap();
    second.wait_exit(PATIENCE).unwrap().unwrap();
    assert_eq!(described(), None);
    let events = cgroup_root().join(group.unwrap().trim_start_matches('/'));
    rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    until("what it left is gone", || fs::remove_dir(&events).is_ok());
}

fn cgroup_root() -> std::path::PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let is_it = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    mounts.lines().find(is_it).unwrap().split(' ').nth(1).unwrap().into()
}

#[test]
fn a_file_of_another_user_chooses_no_process() {
    let Some(host) = Host::up() else { return };
    host.ok(&["service", "set", "web"]);
    let _server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), std::process::id().to_string()).unwrap();
    std::os::unix::fs::chown(file.path(), Some(NOBODY), None).unwrap();
    let args = ["register", "web", "--pidfile", file.path().to_str().unwrap(), "--listen", "tcp:127.0.0.1:8080"];
    host.fails(&args, &format!("it belongs to user {NOBODY}, who is neither root nor the owner of process"));
    std::os::unix::fs::chown(file.path(), Some(0), None).unwrap();
    host.ok(&args);
}

/// Who calls himself as the SSH server is none.
#[test]
fn a_name_vetoes_nothing() {
    let Some(host) = Host::up() else { return };
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    let sshd = dir.path().join("sshd");
    fs::copy(String::from_utf8(output(Command::new("which").arg("socat")).unwrap().stdout).unwrap().trim(), &sshd)
        .unwrap();
    let mut spoof = Command::new(&sshd);
    spoof.args(["TCP-LISTEN:18022,fork,reuseaddr", "SYSTEM:echo"]);
    let mut spoof = Program::start(as_user(&mut spoof, NOBODY, NOBODY, &[])).unwrap();
    spoof.wait_listening(Proto::Tcp, at("0.0.0.0:18022"), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    host.ok(&["bind", "--refuse", "tcp", "127.0.0.0/8", "18022"]);
}

#[test]
fn output_that_cannot_be_written_does_not_hide_a_change() {
    let Some(host) = Host::up() else { return };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = host.command(&["bind", "--refuse", "tcp", "192.0.2.1", "80"]);
    let ran = output_to(&mut command, full);
    assert_eq!(ran.0, Some(1));
    assert!(ran.1.starts_with("error: the change is in force, but the output cannot be written: "), "{}", ran.1);
    assert_eq!(host.json(&["rules"]).as_array().unwrap().len(), 1);
}

fn output_to(command: &mut Command, stdout: File) -> (Option<i32>, String) {
    command.stdout(stdout).stderr(Stdio::piped());
    let mut program = Program::start(command).unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(program.child().stderr.as_mut().unwrap(), &mut stderr).unwrap();
    (program.wait_exit(PATIENCE).unwrap().unwrap().code(), stderr)
}

/// Files that mean more than fits, that nest without end, or that are no files.
#[test]
fn files_without_bounds_end_in_an_error() {
    let Some(host) = Host::up() else { return };
    let ports: Vec<u16> = (1..=5000).collect();
    let prefixes: Vec<String> = (0..5000).map(|host| format!("10.0.{}.{}", host / 250, host % 250)).collect();
    let many = serde_json::json!({"services": {}, "rules": [
        {"verdict": "refuse", "protocol": ["tcp", "udp"], "local": prefixes, "ports": ports}]});
    let ran = host.apply(&many.to_string());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("more than 16777216 rules"), "{}", ran.stderr);
    for (open, rest) in [("[", ""), ("{\"rules\": ", "["), ("{\"a\":", ""), ("rules = ", "["), ("a = ", "{a = ")] {
        let deep = format!("{open}{}", if rest.is_empty() { open } else { rest }.repeat(300_000));
        let ran = host.apply(&deep);
        assert_eq!(ran.code, Some(1), "{open} {rest}: {}", &ran.stderr[..ran.stderr.len().min(500)]);
    }
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo.toml");
    assert!(output(Command::new("mkfifo").arg(&fifo)).unwrap().status.success());
    for file in [fifo.to_str().unwrap(), "/dev/zero"] {
        host.fails(&["apply", file], "not a plain file");
    }
    // One that includes the next one, and so on.
    for number in 0..100 {
        let text = format!("include = [\"{}.toml\"]\nrules = []\n", number + 1);
        fs::write(dir.path().join(format!("{number}.toml")), text).unwrap();
    }
    let ran = host.run(&["apply", dir.path().join("0.toml").to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("more than 32 files"), "{}", ran.stderr);
    assert_eq!(host.json(&["status"])["generation"], 1);
}
