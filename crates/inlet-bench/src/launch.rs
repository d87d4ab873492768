//! Runs the `inlet` program to its end and says what it took.
//!
//! A small process in between does that: the kernel counts the memory of the process that started a program as the
//! program's own peak, and the benchmark is large.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::raw;

/// What a process took.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Took {
    pub(crate) ms: f64,
    /// The most memory it had at a time, in MB.
    pub(crate) peak_mb: f64,
    pub(crate) cpu_ms: f64,
    /// What it wrote to standard output.
    pub(crate) written: u64,
    pub(crate) succeeded: bool,
}

/// The `inlet` program and the bpffs it is to use.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    pub(crate) program: PathBuf,
    pub(crate) bpffs: PathBuf,
}

impl Inlet {
    /// The program given, or the one beside this program, or in `target/release`.
    pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf> {
        let beside = std::env::current_exe()?.with_file_name("inlet");
        let usual = PathBuf::from("target/release/inlet");
        let found = match given {
            Some(given) => Some(given.to_owned()),
            None => [beside, usual].into_iter().find(|path| path.exists()),
        };
        let found = found.ok_or("no inlet program; build it with: cargo build --release -p inlet-cli")?;
        Ok(found.canonicalize().map_err(|cause| format!("{}: {cause}", found.display()))?)
    }

    /// Runs it and fails when it does.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Took> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("launch").arg(&self.program).arg("--bpffs").arg(&self.bpffs).args(arguments);
        let output = command.stderr(Stdio::inherit()).output()?;
        let took: Took = serde_json::from_slice(&output.stdout)?;
        match took.succeeded {
            true => Ok(took),
            false => Err(format!("inlet {:?} failed", arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>()).into()),
        }
    }
}

/// Runs a program with its output into a pipe.
pub(crate) fn launch(program: &OsStr, arguments: &[std::ffi::OsString]) -> io::Result<Took> {
    let (mut reader, writer) = io::pipe()?;
    let started = Instant::now();
    let mut command = Command::new(program);
    let child = command.args(arguments).stdout(OwnedFd::from(writer)).spawn()?;
    // This keeps the writing end open.
    drop(command);
    let (mut written, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            bytes => written += bytes as u64,
        }
    }
    let (succeeded, usage) = raw::wait(child.id())?;
    let ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(Took { ms, peak_mb: usage.peak_mb, cpu_ms: usage.cpu_seconds * 1e3, written, succeeded })
}
