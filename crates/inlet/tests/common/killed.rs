//! Operations in a process that is killed at a step: this same test program, with nothing but the test in it that
//! carries them out.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use inlet_testkit::{Program, World};

const OPERATION: &str = "INLET_CHILD_OPERATION";
const BPFFS: &str = "INLET_CHILD_BPFFS";

/// What this process was started for, and the bpf filesystem of its instance; `None` in a normal run.
pub(crate) fn operation() -> Option<(String, PathBuf)> {
    let operation = std::env::var(OPERATION).ok()?;
    Some((operation, std::env::var_os(BPFFS).unwrap().into()))
}

/// Has the test of this name carry out an operation, and sees to it that it was killed at the step.
pub(crate) fn killed(world: &World, test: &str, operation: &str, step: &str, stdin: Option<OwnedFd>) {
    let status = ran(world, test, operation, ("INLET_FAULT", step), stdin);
    assert_eq!(status.signal(), Some(9), "{operation} was not killed at {step}: {status}");
}

/// Has the test of this name carry out an operation as on a kernel that lacks something.
pub(crate) fn without(world: &World, test: &str, operation: &str, lacked: &str) {
    let status = ran(world, test, operation, ("INLET_LACKS", lacked), None);
    assert!(status.success(), "{operation} without {lacked}: {status}");
}

fn ran(world: &World, test: &str, operation: &str, variable: (&str, &str), stdin: Option<OwnedFd>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(OPERATION, operation).env(BPFFS, world.bpffs.path()).env(variable.0, variable.1);
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::null());
    let mut child = Program::start(&mut command).unwrap();
    child.wait_exit(Duration::from_secs(60)).unwrap().expect("the child ends")
}
