//! A server with its workers: in a control group of its own, so that nothing of it is left when the test ends or fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inlet_testkit::{Cgroup, Program, Proto};
use rustix::process::Signal;

use crate::{PATIENCE, at, wait_until};

/// A running server.
pub(crate) struct Daemon {
    // Dropped in this order: asked to end, then whatever is left is ended.
    program: Program,
    _cgroup: Cgroup,
    log: PathBuf,
}

impl Daemon {
    /// Starts a server that runs in the foreground; what it says goes to a file in the directory.
    pub(crate) fn start(dir: &Path, command: &mut Command) -> Self {
        Self::start_in(Cgroup::new().unwrap(), dir, command)
    }

    /// The same in a control group that was made before.
    pub(crate) fn start_in(cgroup: Cgroup, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join("log");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        cgroup.contain(command).unwrap();
        Self { program: Program::start(command).unwrap(), _cgroup: cgroup, log }
    }

    /// Waits until it listens.
    #[track_caller]
    pub(crate) fn wait_listening(&mut self, proto: Proto, addr: &str) {
        let listening = self.program.wait_listening(proto, at(addr), PATIENCE);
        assert!(listening.is_ok(), "{listening:?}: {}", self.log());
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it by a signal, and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self, signal: Signal) {
        self.program.signal(signal).unwrap();
        assert!(self.program.wait_exit(PATIENCE).unwrap().is_some(), "does not end: {}", self.log());
    }

    /// The processes that it started and that run.
    pub(crate) fn workers(&self) -> BTreeSet<u32> {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    /// Has it reload by a signal, and waits until so many new workers are there and no old one.
    #[track_caller]
    pub(crate) fn reload(&self, signal: Signal, workers: usize) {
        wait_until("all workers", || self.workers().len() == workers);
        let old = self.workers();
        self.program.signal(signal).unwrap();
        wait_until("new workers and no old ones", || {
            let now = self.workers();
            now.len() == workers && now.is_disjoint(&old)
        });
    }
}
