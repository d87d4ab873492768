//! Changes that are granted: a user without rights changes what it may and nothing else, and a unit is told by what the
//! kernel says. Needs root.

#![allow(clippy::unwrap_used)]

#[path = "../common/host.rs"]
mod host;
mod server;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::{Host, PATIENCE, Ran, at};
use inlet_testkit::{
    Cgroup, Dial, Program, Proto, TcpServer, UdpServer, as_user, dial_tcp, dial_udp, output, require_program,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tempfile::TempDir;

/// The user of the grants, and one of whom no grant speaks.
const NOBODY: u32 = 65534;
const STRANGER: u32 = 54321;

const RULESET: &str = r#"
services.web = {}
services.rtp = {}
services."tcp:127.0.0.1:18181" = { listen = "tcp:127.0.0.1:18181", user = "65534" }
grants = [
  { user = "65534", service = "web", local = ["192.0.2.0/28", "2001:db8::/64"], ports = "80,8000-8999" },
  { unit = "UNIT", service = "rtp", local = "192.0.2.32/28" },
  { user = "65534", service = "tcp:127.0.0.1:18181", local = "192.0.2.48/28" },
]
rules = [
  { verdict = "pass", protocol = "tcp", local = "192.0.2.3", ports = 80 },
  { to = "rtp", protocol = "tcp", local = "192.0.2.4", ports = 80 },
]
"#;

/// A host with the ruleset and the server in front of it.
struct Granted {
    host: Host,
    server: Program,
    dir: TempDir,
    unit: String,
}

impl Granted {
    fn new(unit: &str) -> Option<Self> {
        let host = Host::up()?;
        for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
            host.world.local(prefix).unwrap();
        }
        let ran = host.apply(&RULESET.replace("UNIT", unit));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let socket = dir.path().join("grantd.sock");
        let mut command = host.command(&["grantd", "--socket", socket.to_str().unwrap()]);
        let server = Program::start(command.stderr(log)).unwrap();
        let granted = Self { host, server, dir, unit: unit.to_owned() };
        granted.wait_until("the server", || granted.connect().is_some());
        Some(granted)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("grantd.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "never came: {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A command as a user without rights.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(args);
        command.env("INLET_GRANTD", self.socket());
        command
    }

    fn run(&self, uid: u32, args: &[&str]) -> Ran {
        let output = output(as_user(&mut self.command(args), uid, uid, &[])).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(NOBODY, args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}: {}", self.log());
        ran.stdout
    }

    /// Runs a command that is refused, with this text, and changes nothing.
    #[track_caller]
    fn refused(&self, uid: u32, args: &[&str], text: &str) {
        let before = self.host.ok(&["export"]);
        let ran = self.run(uid, args);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(text) && host::is_error(&ran.stderr), "{args:?}: {}", ran.stderr);
        assert_eq!(self.host.ok(&["export"]), before, "{args:?}");
    }

    fn connect(&self) -> Option<OwnedFd> {
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&connection, &SocketAddrUnix::new(self.socket()).unwrap()).ok()?;
        Some(connection)
    }

    /// What the kernel says of the server: a field of its status in kB.
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.server.id())).unwrap().count()
    }
}

/// An echo at an address, of a user without rights.
fn echo(listen: &str) -> Program {
    let mut socat = Command::new("socat");
    socat.args([listen, "SYSTEM:echo granted"]).stdout(Stdio::null());
    Program::start(as_user(&mut socat, NOBODY, NOBODY, &[])).unwrap()
}

#[test]
fn a_user_changes_what_is_granted_and_nothing_else() {
    let Some(granted) = Granted::new("absent.service") else { return };
    if !require_program("socat") {
        return;
    }
    let said = granted.ok(&["bind", "web", "tcp", "192.0.2.0/28", "80,8000-8100"]);
    assert!(said.contains("tcp 192.0.2.0/28 80,8000-8100 -> web") && said.contains("by inlet grantd"), "{said}");
    granted.ok(&["bind", "web", "udp", "2001:db8::/64", "8053"]);
    granted.ok(&["bind", "web", "tcp", "192.0.2.5", "80", "--from", "198.51.100.0/24"]);
    let mut server = echo("TCP-LISTEN:18180,bind=127.0.0.1,fork,reuseaddr");
    server.wait_listening(Proto::Tcp, at("127.0.0.1:18180"), PATIENCE).unwrap();
    let pid = server.id().to_string();
    let said = granted.ok(&["register", "web", "--pid", &pid]);
    assert!(said.contains("adopted tcp:127.0.0.1:18180 -> web"), "{said}");
    // What it gave it takes away again: by the process, and of nobody else's service.
    granted.refused(NOBODY, &["unregister", "rtp", "--pid", &pid], "not granted to user 65534");
    let said = granted.ok(&["unregister", "web", "--pid", &pid]);
    assert!(said.contains("1 socket of web taken out"), "{said}");
    assert_eq!(granted.run(NOBODY, &["unregister", "web"]).code, Some(1));
    granted.ok(&["register", "web", "--pid", &pid]);
    // A service that is named after the address of its sockets.
    granted.ok(&["bind", "--to", "tcp:127.0.0.1:18181", "tcp", "192.0.2.48", "80"]);
    assert!(granted.host.ok(&["rules"]).contains("tcp:127.0.0.1:18181"));
    granted.refused(
        NOBODY,
        &["bind", "--to", "tcp:127.0.0.1:18181", "tcp", "192.0.2.1", "80"],
        "not granted to user 65534",
    );
    // The address is granted: another program's bind() gets nothing of it.
    let thief = TcpServer::spawn("thief", at("192.0.2.1:80")).unwrap();
    let udp_thief = UdpServer::spawn("thief", at("[2001:db8::1]:8053"));
    let answer = || {
        use std::io::Read;
        let mut text = String::new();
        std::net::TcpStream::connect(at("192.0.2.1:80")).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    (0..5).for_each(|_| assert_eq!(answer(), "granted\n"));
    assert_eq!(thief.served(), 0);
    assert!(udp_thief.is_err() || dial_udp(at("[2001:db8::1]:8053"), &Dial::new().timeout(PATIENCE)).name().is_none());

    let denied = "not granted to user 65534";
    for args in [
        &["bind", "web", "tcp", "192.0.2.16", "80"][..],
        &["bind", "web", "tcp", "192.0.2.0/27", "80"],
        &["bind", "web", "tcp", "192.0.2.0/28", "81"],
        &["bind", "web", "tcp", "192.0.2.0/28", "80,81"],
        &["bind", "web", "tcp", "192.0.2.0/28", "any"],
        &["bind", "rtp", "tcp", "192.0.2.1", "80"],
        &["bind", "rtp", "tcp", "192.0.2.33", "80"],
        &["bind", "new", "tcp", "192.0.2.1", "80"],
        &["bind", "web", "tcp", "192.0.2.3", "80"],
        &["unbind", "tcp", "192.0.2.3", "80"],
        &["unbind", "tcp", "192.0.2.4", "80"],
        &["register", "rtp", "--pid", &pid],
        &["register", "new", "--pid", &pid],
    ] {
        granted.refused(NOBODY, args, denied);
    }
    granted.refused(NOBODY, &["unbind", "tcp", "192.0.2.9", "80"], "no rule tcp 192.0.2.9/32 80");
    // Who may nothing is told so, and who may something is told what.
    let ran = granted.run(STRANGER, &["bind", "web", "tcp", "192.0.2.1", "80"]);
    assert!(ran.stderr.contains("not granted to user 54321") && ran.stderr.contains("nothing is granted"), "{ran:?}");
    let ran = granted.run(NOBODY, &["bind", "web", "tcp", "192.0.2.99", "80"]);
    assert!(
        ran.stderr.contains("user 65534 service web local 192.0.2.0/28 2001:db8::/64 ports 80,8000-8999"),
        "{ran:?}"
    );
    // All else is as without a server.
    for args in [&["bind", "--pass", "tcp", "192.0.2.1", "80"][..], &["service", "rm", "web"], &["down"]] {
        assert_eq!(granted.run(NOBODY, args).code, Some(1), "{args:?}");
    }
    granted.ok(&["unbind", "tcp", "192.0.2.0/28", "80,8000-8100"]);
    assert_eq!(thief.served(), 0);
    assert_eq!(dial_tcp(at("192.0.2.1:80"), &Dial::new().timeout(PATIENCE)).name(), Some("thief"));
    let log = granted.log();
    for line in
        ["granted: user 65534, process", ": bind web tcp 192.0.2.0/28 80,8000-8100", "refused: user 54321, process"]
    {
        assert!(log.contains(line), "{log}");
    }
}

/// Who has the rights does it itself, whatever is granted.
#[test]
fn root_asks_nobody() {
    let Some(granted) = Granted::new("absent.service") else { return };
    let asked = granted.log().lines().count();
    let output = output(&mut granted.command(&["bind", "rtp", "tcp", "192.0.2.200", "1"])).unwrap();
    assert!(output.status.success());
    assert_eq!(granted.log().lines().count(), asked);
}

/// A control group of a name, removed with what runs in it.
struct Group(PathBuf);

impl Group {
    fn new(path: &str) -> Self {
        // The hierarchy need not be mounted at /sys/fs/cgroup.
        let some = Cgroup::new().unwrap();
        let dir = some.path().parent().unwrap().join(path);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_unit_is_told_by_its_control_group() {
    let unit = format!("inlet-test-{}.service", std::process::id());
    let Some(granted) = Granted::new(&unit) else { return };
    let slice = format!("inlettest{}.slice", std::process::id());
    let (outer, user) = (Group::new(&slice), Group::new(&format!("inlet-test-{}-user", std::process::id())));
    let (real, fake) = (Group::new(&format!("{slice}/{unit}")), Group(user.0.join(&unit)));
    fs::create_dir(&fake.0).unwrap();
    let from = |group: &Group, args: &[&str]| {
        let inlet = env!("CARGO_BIN_EXE_inlet");
        let script = format!(
            "echo 0 >{}/cgroup.procs; exec setpriv --reuid={STRANGER} --clear-groups {inlet} \"$@\"",
            group.0.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(args).arg("--bpffs").arg(granted.host.world.bpffs.path());
        let output = output(command.env("INLET_GRANTD", granted.socket())).unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let bind = ["bind", "rtp", "udp", "192.0.2.33", "5000"];
    // A group of the same name where users may name groups is none of the system's units.
    let (code, said) = from(&fake, &bind);
    assert!(code == Some(1) && said.contains("nothing is granted"), "{said}");
    let (code, said) = from(&real, &bind);
    // Before Linux 6.5 the kernel does not say it beyond doubt.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_proven = !release.starts_with("6.1.");
    match is_proven {
        true => assert_eq!(code, Some(0), "{said}\n{}", granted.log()),
        false => assert!(code == Some(1) && said.contains("nothing is granted"), "{said}"),
    }
    let (code, said) = from(&real, &["bind", "rtp", "udp", "192.0.2.1", "5000"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(granted.unit == unit);
    drop((fake, user, real, outer));
}

#[test]
fn grants_that_cannot_be() {
    let Some(host) = Host::up() else { return };
    let refused = |grants: &str, text: &str| {
        let ran = host.apply(&format!("services.web = {{}}\nservices.dns = {{}}\ngrants = [{grants}]\nrules = []\n"));
        assert_eq!(ran.code, Some(1), "{grants}");
        assert!(ran.stderr.contains(text), "{grants}: {}", ran.stderr);
    };
    refused("{ service = \"web\" }", "names neither a user nor a unit");
    refused("{ user = \"www\" }", "the grant has no \"service\"");
    refused("{ user = \"www\", service = \"wbe\" }", "no service \"wbe\"");
    refused("{ user = \"www\", service = \"web\", ports = 80 }", "\"ports\" without \"local\"");
    refused(
        "{ user = \"a\", service = \"web\", local = \"192.0.2.0/24\" }, { user = \"b\", service = \"dns\", local = \"192.0.2.8\", ports = 53 }",
        "grants for services web and dns overlap in 192.0.2.8",
    );
    let file = "services.web = {}\ngrants = [{ user = \"www\", service = \"web\", local = \"192.0.2.0/24\", ports = 80 }]\nrules = []\n";
    let ran = host.apply(file);
    assert!(ran.stdout.contains("+ grant user www service web local 192.0.2.0/24 ports 80"), "{}", ran.stdout);
    for exported in [host.ok(&["export"]), host.ok(&["export", "--toml"])] {
        assert!(host.apply(&exported).stdout.contains("no change"), "{exported}");
    }
    host.fails(&["service", "rm", "web"], "a grant names service web, which is not there");
    let ran = host.apply("services.web = {}\nrules = []\n");
    assert!(ran.stdout.contains("- grant user www service web"), "{}", ran.stdout);
    host.ok(&["rollback"]);
    assert!(host.ok(&["export", "--toml"]).contains("grants = ["));
}
