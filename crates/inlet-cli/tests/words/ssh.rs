//! Nobody locks himself out: a real SSH server, a real session, and one whose listener systemd holds.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use inlet_testkit::{Dial, Program, Proto, dial_tcp, output, require_program};
use tempfile::TempDir;

use crate::asked::until;
use crate::{Host, PATIENCE, at};

/// A server with keys and a port of its own.
struct Sshd {
    dir: TempDir,
    port: u16,
    program: Program,
}

impl Sshd {
    /// Starts it where this thread is.
    fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for key in ["host", "client"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file(key)]));
        }
        let config = format!(
            "Port {port}\nListenAddress 0.0.0.0\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPidFile none\nUseDNS no\n",
            file("host"),
            file("client.pub")
        );
        std::fs::write(file("config"), config).unwrap();
        // It wants this directory; a /run that only this thread sees leaves the host's as it is.
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]));
        std::fs::create_dir("/run/sshd").unwrap();
        // It insists on being started by its whole path.
        let path = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"].iter().find(|path| PathBuf::from(path).is_file());
        let mut command = Command::new(path.expect("scripts/deps test brings sshd"));
        command.args(["-D", "-e", "-f", &file("config")]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut program = Program::start(&mut command).unwrap();
        program.wait_listening(Proto::Tcp, at(&format!("0.0.0.0:{port}")), PATIENCE).unwrap();
        Self { dir, port, program }
    }

    /// A client for a command on the other side; it gives up when the connection is dead.
    fn client(&self, remote: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(self.dir.path().join("client"));
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            // The quickest: emulated machines run this too.
            "KexAlgorithms=curve25519-sha256",
        ] {
            command.args(["-o", option]);
        }
        command.args(["root@192.0.2.7", remote]);
        command
    }

    fn can_log_in(&self) -> bool {
        output(&mut self.client("echo welcome")).unwrap().stdout == b"welcome\n"
    }

    fn session(&self) -> Session {
        let mut command = self.client("sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = Program::start(&mut command).unwrap();
        let input = program.child().stdin.take().unwrap();
        let output = BufReader::new(program.child().stdout.take().unwrap());
        Session { input, output, _program: program }
    }
}

/// A shell on the other side.
struct Session {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _program: Program,
}

impl Session {
    /// Runs the command there: its status, and all that it prints.
    fn inlet(&mut self, host: &Host, args: &[&str]) -> (String, String) {
        let words: Vec<String> = std::iter::once(env!("CARGO_BIN_EXE_inlet"))
            .chain(args.iter().copied())
            .chain(["--bpffs", host.world.bpffs.path().to_str().unwrap()])
            .map(|word| format!("'{word}'"))
            .collect();
        writeln!(self.input, "{} 2>&1; echo \"status $?\"", words.join(" ")).unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the session has ended: {said}");
            match line.strip_prefix("status ") {
                Some(status) => return (status.trim().to_owned(), said),
                None => said.push_str(&line),
            }
        }
    }

    #[track_caller]
    fn ok(&mut self, host: &Host, args: &[&str]) -> String {
        let (status, said) = self.inlet(host, args);
        assert_eq!(status, "0", "{args:?}: {said}");
        said
    }

    #[track_caller]
    fn fails(&mut self, host: &Host, args: &[&str], text: &str) {
        let (status, said) = self.inlet(host, args);
        assert!(status == "1" && said.contains(text), "{args:?}: {status}: {said}");
    }
}

fn run(command: &mut Command) {
    let ran = output(command).unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Rules for all ports in two files, without an exception and with one.
fn files(sshd: &Sshd) -> [String; 2] {
    [("all", String::new()), ("except", format!(r#", "except": [{}]"#, sshd.port))].map(|(name, except)| {
        let path = sshd.dir.path().join(name);
        let rule = format!(r#"{{"to": "proxy", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"{except}}}"#);
        std::fs::write(&path, format!(r#"{{"services": {{"proxy": {{}}}}, "rules": [{rule}]}}"#)).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

fn nobody_is_locked_out(port: u16) {
    if !["sshd", "ssh", "ssh-keygen"].iter().all(|program| require_program(program)) {
        return;
    }
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    let sshd = Sshd::start(port);
    let [all, except] = files(&sshd);
    let bind = ["bind", "proxy", "tcp", "192.0.2.0/24", &port.to_string()];
    let mut session = sshd.session();
    session.ok(&host, &["status"]);

    // In the session its own connection tells; elsewhere that it is the SSH server.
    let listener = format!("tcp:0.0.0.0:{port} (pid {}, sshd), which serves", sshd.program.id());
    session.fails(&host, &["apply", &all], &format!("from {listener} this session\nfix: inlet bind --pass"));
    session.fails(&host, &bind, &format!("{listener} this session"));
    host.fails(&["apply", &all], &format!("from {listener} SSH\nfix: inlet bind --pass"));
    host.fails(&bind, &format!("{listener} SSH"));
    assert!(sshd.can_log_in() && host.json(&["rules"]).as_array().unwrap().is_empty());

    session.ok(&host, &["apply", &except]);
    let refuses = |port| dial_tcp(at(&format!("192.0.2.7:{port}")), &Dial::new().timeout(PATIENCE)).name().is_none();
    assert!(refuses(80) && sshd.can_log_in());
    session.ok(&host, &["status"]);
    let excepted = host.ok(&["export"]);

    // Forced, it locks others out, but not who is in.
    session.fails(&host, &["apply", &all], "this session");
    session.ok(&host, &["apply", "--force", &all]);
    assert!(!sshd.can_log_in());
    session.ok(&host, &["rollback"]);
    assert!(sshd.can_log_in());

    let said = session.ok(&host, &["apply", "--force", "--confirm", "2", &all]);
    assert!(said.contains("goes back in 2 seconds"), "{said}");
    drop(session);
    until("it goes back", || host.ok(&["export"]) == excepted);
    assert!(sshd.can_log_in());
    sshd.session().ok(&host, &["status"]);
}

#[test]
fn nobody_is_locked_out_of_port_22() {
    nobody_is_locked_out(22);
}

#[test]
fn nobody_is_locked_out_of_another_port() {
    nobody_is_locked_out(2222);
}

/// Socket activation: the listener is one of pid 1, and no `sshd` runs. A process namespace has a pid 1 of its own.
#[test]
fn a_listener_that_waits_for_ssh_is_guarded() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/usr/local/lib"]));
    std::fs::create_dir_all("/usr/local/lib/systemd/system").unwrap();
    std::fs::write("/usr/local/lib/systemd/system/ssh.socket", "[Socket]\nListenStream=2222\n").unwrap();
    for (port, guarded) in [(22, true), (2222, true), (2223, false)] {
        let listen = format!("TCP4-LISTEN:{port},fork,reuseaddr");
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "socat", &listen, "SYSTEM:true"]);
        let mut init = Program::start(&mut unshare).unwrap();
        init.wait_listening(Proto::Tcp, at(&format!("0.0.0.0:{port}")), PATIENCE).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.id())).unwrap();
        let bind = ["bind", "proxy", "tcp", "192.0.2.0/24", &port.to_string()];
        let mut inside = Command::new("nsenter");
        inside.args(["--pid", "--mount", "--target", children.trim(), env!("CARGO_BIN_EXE_inlet")]);
        let ran = output(inside.args(bind).arg("--bpffs").arg(host.world.bpffs.path())).unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        let expected = format!("from tcp:0.0.0.0:{port} (pid 1, socat), which serves SSH");
        assert_eq!((ran.status.success(), said.contains(&expected)), (!guarded, guarded), "{port}: {said}");
        // A process with another number is no systemd.
        host.ok(&bind);
    }
}
