//! Surroundings of a test of the command: a network namespace and a bpf filesystem of its own, and the command in them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

pub(crate) use inlet_testkit::PATIENCE;
use inlet_testkit::{Program, World, output};
use serde_json::Value;

/// Surroundings with the command in them.
pub(crate) struct Host {
    pub(crate) world: World,
}

/// What a run of the command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Host {
    /// Surroundings without an instance; `None` skips the test.
    pub(crate) fn new() -> Option<Self> {
        Some(Self { world: World::new()? })
    }

    /// Surroundings with an instance.
    pub(crate) fn up() -> Option<Self> {
        let host = Self::new()?;
        host.ok(&["up"]);
        Some(host)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
        command.args(args).arg("--bpffs").arg(self.world.bpffs.path()).env_remove("LISTEN_FDS").env_remove("COLUMNS");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = output(&mut self.command(args)).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        ran.stdout
    }

    /// The same as JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// Runs a command that fails with this text, in one line with the next step on another one.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], text: &str) {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{args:?}: {}", ran.stderr);
        assert!(is_error(&ran.stderr), "{args:?}: {}", ran.stderr);
    }

    /// Runs `inlet apply -` on a text.
    pub(crate) fn apply(&self, text: &str) -> Ran {
        self.feed(&["apply", "-"], text)
    }

    /// Runs a command that reads a text from standard input.
    pub(crate) fn feed(&self, args: &[&str], text: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = Program::start(&mut command).unwrap();
        let child = program.child();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = program.wait_exit(PATIENCE).unwrap().unwrap();
        Ran { code: status.code(), stdout, stderr }
    }
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Whether this is one error: a line, and the next step on a line of its own where there is one.
pub(crate) fn is_error(stderr: &str) -> bool {
    let lines: Vec<&str> = stderr.lines().collect();
    lines[0].starts_with("error: ") && (lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("fix: "))
}

/// The words of each line.
pub(crate) fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}
