//! Commands that are killed, or have a system call fail, at any of their system calls (strace): traffic goes on, the
//! rules in force are the old or the new ones, the next command does its work, and `down` leaves nothing. A part of all calls in a normal
//! run, spread evenly; all of them with INLET_SOAK=1. Needs root.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

#[path = "common/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use host::{Host, at};
use inlet_testkit::{Answer, Dial, Namespace, TcpServer, dial_tcp, output, require_program};

/// So many calls of a command are tried in a normal run, of each way to fail.
const TRIED: usize = 8;

const OLD: &str = r#"{"services": {"a": {}, "b": {}}, "rules": [
    {"to": "a", "protocol": "tcp", "local": "192.0.2.1", "ports": 80},
    {"to": "a", "protocol": "tcp", "local": "192.0.2.50", "ports": 80}]}"#;
const NEW: &str = r#"{"services": {"a": {}, "b": {}, "d": {"listen": "tcp:127.0.0.1:7003"}}, "rules": [
    {"to": "b", "protocol": "tcp", "local": "192.0.2.1", "ports": 80},
    {"to": "d", "protocol": "tcp", "local": "192.0.2.2", "ports": 80},
    {"to": "a", "protocol": "tcp", "local": "192.0.2.50", "ports": 80}]}"#;

/// The same, and Inlet keeps the routes.
const ROUTES: &str = r#"{"routes": "manage", "services": {"a": {}, "b": {}}, "rules": [
    {"to": "b", "protocol": "tcp", "local": "192.0.2.1", "ports": 80},
    {"to": "b", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 80},
    {"to": "b", "protocol": "tcp", "local": "2001:db8:1::/48", "ports": 80},
    {"to": "a", "protocol": "tcp", "local": "192.0.2.50", "ports": 80}]}"#;

/// What may be found when a command has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// The old rules or the new ones.
    OldOrNew,
    /// A description of its own too, which the next command takes away.
    ItsOwn,
    /// An instance or none.
    AnInstanceOrNone,
}

/// A command, what is done before it beside the usual, and what mends what it leaves when it fails.
struct Scenario {
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    next: &'static [&'static str],
    leaves: Leaves,
}

impl Scenario {
    const fn of(command: &'static [&'static str]) -> Self {
        const BIND: &[&str] = &["bind", "a", "tcp", "192.0.2.99", "99"];
        Self { before: &[], command, next: BIND, leaves: Leaves::OldOrNew }
    }

    const fn after(self, before: &'static [&'static [&'static str]]) -> Self {
        Self { before, ..self }
    }

    const fn then(self, next: &'static [&'static str]) -> Self {
        Self { next, ..self }
    }

    const fn leaves(self, leaves: Leaves) -> Self {
        Self { leaves, ..self }
    }

    /// Whether it leaves a process that waits, for which strace must not wait.
    fn is_followed(&self) -> bool {
        !self.command.contains(&"--confirm")
    }
}

const ROLLBACK: &[&str] = &["rollback", "--force"];
const RUN: &[&str] = &["run", "r", "--", "true"];

const SCENARIOS: &[Scenario] = &[
    Scenario::of(&["bind", "b", "tcp", "192.0.2.1", "80"]),
    Scenario::of(&["unbind", "tcp", "192.0.2.1", "80"]),
    Scenario::of(&["apply", "NEW"]),
    Scenario::of(&["apply", "ROUTES"]),
    Scenario::of(&["apply", "NEW"]).after(&[&["apply", "ROUTES"]]),
    Scenario::of(&["rollback"]).after(&[&["apply", "NEW"]]),
    // Going back once more, when nothing came of it, must not end where nobody has the address that is dialed.
    Scenario::of(&["apply", "NEW", "--confirm", "300"])
        .after(&[&["bind", "a", "tcp", "192.0.2.98", "98"]])
        .then(ROLLBACK),
    Scenario::of(&["confirm"]).after(&[&["apply", "NEW", "--confirm", "300"]]).then(ROLLBACK),
    Scenario::of(&["rollback"]).after(&[&["apply", "NEW", "--confirm", "300"]]).then(ROLLBACK),
    Scenario::of(&["service", "set", "d", "--by-hand"]).after(&[&["apply", "NEW"]]),
    Scenario::of(&["service", "set", "b", "--listen", "tcp:127.0.0.1:7003"]),
    Scenario::of(&["service", "rm", "x"]).after(&[&["service", "set", "x"]]),
    Scenario::of(&["adopt"]).after(&[&["apply", "NEW"]]),
    Scenario::of(&["register", "b", "--pid", "SELF", "--listen", "tcp:127.0.0.1:7002"]),
    Scenario::of(&["unregister", "b"]),
    Scenario::of(RUN).after(&[&["service", "set", "r"]]).then(RUN).leaves(Leaves::ItsOwn),
    Scenario::of(&["up"]).after(&[&["down"]]).then(&["up"]).leaves(Leaves::AnInstanceOrNone),
    Scenario::of(&["down"]).after(&[&["apply", "ROUTES"]]).then(&["up"]).leaves(Leaves::AnInstanceOrNone),
    Scenario::of(&["status"]),
    Scenario::of(&["listeners"]),
    Scenario::of(&["explain", "tcp", "192.0.2.1:80"]),
    Scenario::of(&["plan", "NEW"]),
    Scenario::of(&["check"]),
    Scenario::of(&["export"]),
];

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kill,
    Error(&'static str),
}

/// A call of a command that fails, as strace takes it.
#[derive(Clone, Debug)]
struct Fault {
    call: String,
    number: usize,
    way: Way,
}

impl Fault {
    fn injection(&self) -> String {
        let Self { call, number, way } = self;
        match way {
            Way::Kill => format!("inject={call}:signal=KILL:when={number}"),
            Way::Error(error) => format!("inject={call}:error={error}:when={number}"),
        }
    }
}

/// Where a run is.
struct Run<'a> {
    host: &'a Host,
    files: &'a Path,
}

impl Run<'_> {
    fn words<'w>(&self, args: &[&'w str]) -> Vec<std::borrow::Cow<'w, str>> {
        let word = |word: &&'w str| match *word {
            "OLD" | "NEW" | "ROUTES" => self.files.join(format!("{word}.json")).display().to_string().into(),
            "SELF" => std::process::id().to_string().into(),
            other => other.into(),
        };
        args.iter().map(word).collect()
    }

    fn ok(&self, args: &[&str]) -> String {
        let words = self.words(args);
        // Before the command, of which the rest of the line may be another program.
        let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
        command.arg("--bpffs").arg(self.host.world.bpffs.path()).args(words.iter().map(AsRef::<str>::as_ref));
        let ran = output(&mut command).unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!((ran.status.code(), stderr.as_ref()), (Some(0), ""), "{args:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    fn set_up(&self, scenario: &Scenario) {
        self.ok(&["up"]);
        self.ok(&["apply", "OLD"]);
        self.ok(&["register", "a", "--pid", "SELF", "--listen", "tcp:127.0.0.1:7001"]);
        self.ok(&["register", "b", "--pid", "SELF", "--listen", "tcp:127.0.0.1:7002"]);
        scenario.before.iter().for_each(|args| drop(self.ok(args)));
    }

    /// Runs the command under strace; gives its status, where it ended by itself, and the trace.
    fn traced(&self, scenario: &Scenario, fault: Option<&Fault>) -> (Option<i32>, String, String) {
        let log = self.files.join("strace.log");
        let mut command = Command::new("strace");
        if scenario.is_followed() {
            command.arg("-f");
        }
        command.arg("-o").arg(&log);
        if let Some(fault) = fault {
            command.arg("-e").arg(fault.injection());
        }
        command.arg(env!("CARGO_BIN_EXE_inlet")).arg("--bpffs").arg(self.host.world.bpffs.path());
        command.args(self.words(scenario.command).iter().map(AsRef::<str>::as_ref));
        let ran = output(&mut command).unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.code(), stderr, String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned())
    }

    fn export(&self) -> String {
        self.ok(&["export"])
    }
}

/// The calls of a command that can fail, each with every way.
fn faults(trace: &str) -> Vec<Fault> {
    // Those that the program's start makes before it is itself, and those that never fail.
    const LEFT: [&str; 16] = [
        "execve",
        "exit",
        "exit_group",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "rt_sigaction",
        "rt_sigprocmask",
        "sigaltstack",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "getrandom",
    ];
    let begun = trace.find("/proc/self/maps").or_else(|| trace.find("thread-self")).unwrap_or(0);
    let (mut counts, mut all): (BTreeMap<String, usize>, Vec<Fault>) = Default::default();
    let mut at = 0;
    for line in trace.lines() {
        at += line.len() + 1;
        // With its process before it, when processes are followed.
        let line = line.trim_start_matches(|it: char| it.is_ascii_digit()).trim_start();
        let call = line.split_once('(').map(|(call, _)| call);
        let Some(call) =
            call.filter(|call| call.bytes().all(|it| it.is_ascii_lowercase() || it == b'_' || it.is_ascii_digit()))
        else {
            continue;
        };
        let number = counts.entry(call.to_owned()).or_default();
        *number += 1;
        if at < begun || LEFT.contains(&call) {
            continue;
        }
        // That a close fails means nothing, and the standard library takes it for a fault of its own.
        let ways: &[Way] = match call {
            "close" => &[Way::Kill],
            _ => &[Way::Kill, Way::Error("ENOMEM"), Way::Error("EPERM")],
        };
        for way in ways {
            all.push(Fault { call: call.to_owned(), number: *number, way: *way });
        }
    }
    all
}

/// Some of them, spread evenly; all of them in a soak.
fn chosen(all: Vec<Fault>) -> Vec<Fault> {
    if std::env::var_os("INLET_SOAK").is_some() {
        return all;
    }
    let of = |kill: bool| all.iter().filter(move |fault| (fault.way == Way::Kill) == kill);
    let spread = |kill: bool| {
        let count = of(kill).count();
        (0..TRIED.min(count)).map(move |at| at * count / TRIED.min(count))
    };
    let kills: Vec<&Fault> = of(true).collect();
    let errors: Vec<&Fault> = of(false).collect();
    spread(true).map(|at| kills[at].clone()).chain(spread(false).map(|at| errors[at].clone())).collect()
}

/// Somebody who dials an address that every ruleset gives to the same server, or that nobody has while Inlet is down.
fn dialed<R>(namespace: &Namespace, leaves: Leaves, work: impl FnOnce() -> R) -> (R, u64) {
    let (goes_on, answered) = (AtomicBool::new(true), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            namespace.enter(|| {
                while goes_on.load(Ordering::Relaxed) {
                    let answer = dial_tcp(at("192.0.2.50:80"), &Dial::new().timeout(host::PATIENCE));
                    let is_down = leaves == Leaves::AnInstanceOrNone && answer == Answer::Refused;
                    assert!(answer.name() == Some("a") || is_down, "a packet went astray: {answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let done = work();
        goes_on.store(false, Ordering::Relaxed);
        done
    });
    (done, answered.into_inner())
}

/// Local routes that Inlet made, as `ip` lists them.
fn routes(namespace: &Namespace) -> String {
    ["-4", "-6"].map(|family| namespace.ip(&[family, "route", "show", "table", "all", "proto", "73"]).unwrap()).concat()
}

/// What is so after a command that failed, and after the next one.
fn judge(run: &Run<'_>, scenario: &Scenario, [old, new]: [&str; 2], (code, stderr): (Option<i32>, &str), about: &str) {
    assert!(!stderr.contains("panicked") && !matches!(code, Some(101 | 134)), "{about}: {stderr}");
    let changes = old != new;
    if scenario.leaves == Leaves::OldOrNew {
        let now = run.export();
        assert!(now == old || now == new, "{about}: neither the old rules nor the new ones: {stderr}\n{now}");
        if code == Some(0) && changes {
            assert_eq!(now, new, "{about}: it says that it is done");
        }
        if code.is_some_and(|code| code != 0 && code < 128) && now == new && changes {
            assert!(stderr.contains("in force"), "{about}: it does not say what is in force: {stderr}");
        }
    }
    run.ok(scenario.next);
    match scenario.leaves {
        Leaves::AnInstanceOrNone => drop(run.export()),
        Leaves::ItsOwn => assert_eq!(run.export(), old, "{about}"),
        Leaves::OldOrNew => {}
    }
    if scenario.leaves != Leaves::AnInstanceOrNone {
        assert_eq!(dial_tcp(at("192.0.2.50:80"), &Dial::new()).name(), Some("a"), "{about}");
    }
    run.ok(&["down"]);
    let left: Vec<_> = std::fs::read_dir(run.host.world.bpffs.path().join("inlet")).unwrap().collect();
    assert!(left.is_empty(), "{about}: {left:?}");
    assert_eq!(routes(&run.host.world), "", "{about}: routes are left");
}

#[test]
fn a_command_that_fails_anywhere_leaves_the_old_or_the_new() {
    if !require_program("strace") {
        return;
    }
    let (mut runs, mut dials) = (0, 0);
    for scenario in SCENARIOS {
        let Some(host) = Host::new() else { return };
        host.world.local("192.0.2.0/24").unwrap();
        let files = tempfile::tempdir().unwrap();
        for (name, text) in [("OLD", OLD), ("NEW", NEW), ("ROUTES", ROUTES)] {
            std::fs::write(files.path().join(format!("{name}.json")), text).unwrap();
        }
        let run = Run { host: &host, files: files.path() };
        let _servers = [("a", "127.0.0.1:7001"), ("b", "127.0.0.1:7002"), ("d", "127.0.0.1:7003")]
            .map(|(name, addr)| TcpServer::spawn(name, at(addr)).unwrap());
        run.set_up(scenario);
        let is_up = || scenario.leaves != Leaves::AnInstanceOrNone;
        let export = || if is_up() { run.export() } else { String::new() };
        let old = export();
        let (code, stderr, trace) = run.traced(scenario, None);
        assert!(matches!(code, Some(0 | 3)), "{:?}: {stderr}", scenario.command);
        let new = export();
        run.ok(&["up"]);
        run.ok(&["down"]);
        for fault in chosen(faults(&trace)) {
            let about = format!("{:?} with {fault:?}", scenario.command);
            run.set_up(scenario);
            let traced = || run.traced(scenario, Some(&fault));
            let ((code, stderr, _), answered) = dialed(&host.world, scenario.leaves, traced);
            (runs, dials) = (runs + 1, dials + answered);
            judge(&run, scenario, [&old, &new], (code, &stderr), &about);
        }
    }
    let _ = writeln!(std::io::stdout(), "{runs} commands failed at a call, {dials} connections meanwhile");
}
