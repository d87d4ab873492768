//! Runs of the command where no bpf filesystem is.

use std::process::Command;

use inlet_testkit::output;

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command where no bpf filesystem is.
pub(crate) fn inlet<A: AsRef<std::ffi::OsStr>>(args: &[A]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
    let output =
        output(command.args(args).env("INLET_BPFFS", "/proc").env_remove("LISTEN_FDS").env_remove("COLUMNS")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
