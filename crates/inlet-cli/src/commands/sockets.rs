//! Commands that give sockets to services and take them out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use inlet::Error;

use super::writer;
use crate::args::{Cli, Register, Unregister};
use crate::failure::Failure;
use crate::render::{self, Screen};

/// No number of a process is longer, and what is shown of a wrong file stays short.
const PIDFILE_BYTES: u64 = 64;

pub(super) fn register(cli: &Cli, args: &Register, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let service = args.service.as_str();
    let pid = match &args.owner.pidfile {
        Some(path) => Some(pid_in(path)?),
        None => args.owner.pid,
    };
    let mut instance = writer(cli)?;
    let adoption = match pid {
        Some(pid) => instance.register_process(service, pid, &args.listen)?,
        None => instance.register_systemd(service, &args.listen)?,
    };
    drop(instance);
    render::adoption(screen, service, &adoption)
}

pub(super) fn unregister(cli: &Cli, args: &Unregister, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let service = args.service.as_str();
    let mut instance = writer(cli)?;
    let count = instance.unregister(service, args.pid)?;
    drop(instance);
    render::unregistered(screen, service, count)
}

fn pid_in(path: &Path) -> Result<u32, Error> {
    let failed = |cause| Error::Os { operation: "read", object: path.display().to_string(), cause };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(PIDFILE_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text.trim();
    let pid = found.parse().ok().filter(|pid| *pid != 0);
    pid.ok_or_else(|| Error::PidFile { path: path.to_owned(), found: found.to_owned() })
}
