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
use inlet_testkit::{Dial, Namespace, TcpServer, dial_tcp, output, require_program};

/// So many calls of a command are tried in a normal run, of each way to fail.
const TRIED: usize = 8;

const OLD: &str = r#"{"services": {"a": {}, "b": {}}, "rules": [
    {"to": "a", "protocol": "tcp", "local": "192.0.2.1", "ports": 80},
    {"to": "a", "protocol": "tcp", "local": "192.0.2.50", "ports": 80}]}"#;
const NEW: &str = r#"{"services": {"a": {}, "b": {}, "d": {"listen": "tcp:127.0.0.1:7003"}}, "rules": [
    {"to": "b", "protocol": "tcp", "local": "192.0.2.1", "ports": 80},
    {"to": "d", "protocol": "tcp", "local": "192.0.2.2", "ports": 80},
    {"to": "a", "protocol": "tcp", "local": "192.0.2.50", "ports": 80}]}"#;

/// A command, and what is done before it beside the usual.
struct Scenario {
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
}

const SCENARIOS: &[Scenario] = &[
    Scenario { before: &[], command: &["bind", "b", "tcp", "192.0.2.1", "80"] },
    Scenario { before: &[], command: &["unbind", "tcp", "192.0.2.1", "80"] },
    Scenario { before: &[], command: &["apply", "NEW"] },
    Scenario { before: &[&["apply", "NEW"]], command: &["rollback"] },
    Scenario { before: &[&["apply", "NEW"]], command: &["service", "set", "d", "--by-hand"] },
    Scenario { before: &[], command: &["service", "set", "b", "--listen", "tcp:127.0.0.1:7003"] },
    Scenario { before: &[&["apply", "NEW"]], command: &["adopt"] },
    Scenario { before: &[], command: &["register", "b", "--pid", "SELF", "--listen", "tcp:127.0.0.1:7002"] },
    Scenario { before: &[], command: &["unregister", "b"] },
    Scenario { before: &[], command: &["status"] },
    Scenario { before: &[], command: &["check"] },
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
            "OLD" | "NEW" => self.files.join(format!("{word}.json")).display().to_string().into(),
            "SELF" => std::process::id().to_string().into(),
            other => other.into(),
        };
        args.iter().map(word).collect()
    }

    fn ok(&self, args: &[&str]) -> String {
        let words = self.words(args);
        self.host.ok(&words.iter().map(AsRef::as_ref).collect::<Vec<_>>())
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
        command.arg("-f").arg("-o").arg(&log);
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
        let call = line.split_whitespace().nth(1).and_then(|word| word.split_once('(')).map(|(call, _)| call);
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

/// Somebody who dials an address that every ruleset gives to the same server.
fn dialed<R>(namespace: &Namespace, work: impl FnOnce() -> R) -> (R, u64) {
    let (goes_on, answered) = (AtomicBool::new(true), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            namespace.enter(|| {
                while goes_on.load(Ordering::Relaxed) {
                    let answer = dial_tcp(at("192.0.2.50:80"), &Dial::new().timeout(host::LONG));
                    assert_eq!(answer.name(), Some("a"), "a packet went astray: {answer:?}");
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
        std::fs::write(files.path().join("OLD.json"), OLD).unwrap();
        std::fs::write(files.path().join("NEW.json"), NEW).unwrap();
        let run = Run { host: &host, files: files.path() };
        let _servers = [("a", "127.0.0.1:7001"), ("b", "127.0.0.1:7002"), ("d", "127.0.0.1:7003")]
            .map(|(name, addr)| TcpServer::spawn(name, at(addr)).unwrap());
        run.set_up(scenario);
        let old = run.export();
        let (_, _, trace) = run.traced(scenario, None);
        let new = run.export();
        run.ok(&["down"]);
        for fault in chosen(faults(&trace)) {
            let about = format!("{:?} with {fault:?}", scenario.command);
            run.set_up(scenario);
            let ((code, stderr, _), answered) = dialed(&host.world, || run.traced(scenario, Some(&fault)));
            (runs, dials) = (runs + 1, dials + answered);
            assert!(!stderr.contains("panicked") && !matches!(code, Some(101 | 134)), "{about}: {stderr}");
            let now = run.export();
            assert!(now == old || now == new, "{about}: neither the old rules nor the new ones: {stderr}\n{now}");
            if code == Some(0) && scenario.command[0] != "status" {
                assert_eq!(now, new, "{about}: it says that it is done");
            }
            if code.is_some_and(|code| code != 0 && code < 128) && now == new && old != new {
                assert!(stderr.contains("in force"), "{about}: it does not say what is in force: {stderr}");
            }
            run.ok(&["bind", "a", "tcp", "192.0.2.99", "99"]);
            assert_eq!(dial_tcp(at("192.0.2.50:80"), &Dial::new()).name(), Some("a"), "{about}");
            run.ok(&["down"]);
            let left: Vec<_> = std::fs::read_dir(host.world.bpffs.path().join("inlet")).unwrap().collect();
            assert!(left.is_empty(), "{about}: {left:?}");
        }
    }
    let _ = writeln!(std::io::stdout(), "{runs} commands failed at a call, {dials} connections meanwhile");
}
