//! A test process killed with SIGKILL leaves nothing: this binary runs itself, and kills what it ran.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use inlet_testkit::{Cgroup, Program, World, require_root};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::{PATIENCE, host_mounts};

const HOLD: &str = "INLET_TESTKIT_HOLD";

#[test]
fn a_killed_test_leaves_nothing() {
    if env::var_os(HOLD).is_some() {
        hold_everything();
    }
    if !require_root() {
        return;
    }
    let mounts = host_mounts();
    let mut victim = start_holder();
    let pipe = victim.child().stderr.take().unwrap();
    let line = BufReader::new(pipe).lines().next().unwrap().unwrap();
    let [sleeper, bpffs, cgroup] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let sleeper = Pid::from_raw(sleeper.parse().unwrap()).unwrap();
    let sleeper = pidfd_open(sleeper, PidfdFlags::empty()).unwrap();
    assert!(fs::exists(bpffs).unwrap() && fs::exists(cgroup).unwrap());

    victim.signal(Signal::KILL).unwrap();
    assert!(victim.wait_exit(PATIENCE).unwrap().is_some());
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    let mut ended = [PollFd::new(&sleeper, PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&patience)).unwrap(), 1);
    assert_eq!(host_mounts(), mounts);
    // The next guards remove the empty directories.
    drop((World::new(), Cgroup::new().unwrap()));
    assert!(!fs::exists(bpffs).unwrap() && !fs::exists(cgroup).unwrap());
}

fn start_holder() -> Program {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "killed::a_killed_test_leaves_nothing"])
        .env(HOLD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Program::start(&mut command).unwrap()
}

fn hold_everything() -> ! {
    let world = World::new().unwrap();
    let cgroup = Cgroup::new().unwrap();
    let mut sleep = Command::new("sleep");
    cgroup.contain(sleep.arg("600")).unwrap();
    let sleep = Program::start(sleep.stderr(Stdio::null())).unwrap();
    let (bpffs, cgroup) = (world.bpffs.path().display(), cgroup.path().display());
    // Not eprintln: the harness would keep it.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{} {bpffs} {cgroup}", sleep.id()).unwrap();
    loop {
        thread::park();
    }
}
