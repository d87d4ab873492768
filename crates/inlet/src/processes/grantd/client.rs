//! The side of the caller, who has no rights of its own.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use inlet_core::Endpoint;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, sendmsg, socket_with,
};

use super::message::{Answer, Ask, Done, MAX_BYTES, MAX_SOCKETS};
use crate::error::{Error, GrantedError, Result};
use crate::instance::choose;
use crate::kernel::{Capability, capability};
use crate::socket::{Filter, Seen, each_from_systemd, each_socket};
use crate::state::Location;

/// How long one waits for an answer: others may change the instance meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long, and how often, one asks anew while the server is busy.
const BUSY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Whether this process lacks the rights to change an instance by itself.
pub fn lacks_rights() -> bool {
    capability::require("changing the instance", &[Capability::Bpf, Capability::NetAdmin]).is_err()
}

/// Has `inlet grantd` do something. Sockets go beside [`Ask::Register`] and [`Ask::Unregister`] only.
///
/// # Errors
/// [`GrantedError::Refused`] with what it says, and [`GrantedError::Silent`].
pub fn ask_grantd(path: &Path, ask: &Ask, sockets: &[OwnedFd]) -> Result<Done> {
    let mut all = Done::default();
    // At least one message, with whatever fits into one.
    let mut parts: Vec<&[OwnedFd]> = sockets.chunks(MAX_SOCKETS).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    for part in parts {
        let done = ask_one(path, ask, part)?;
        all.generation = done.generation;
        all.lines.extend(done.lines);
    }
    Ok(all)
}

fn ask_one(path: &Path, ask: &Ask, sockets: &[OwnedFd]) -> Result<Done> {
    let silent = |cause: io::Error| Error::from(GrantedError::Silent { path: path.to_owned(), cause });
    let until = Instant::now() + BUSY;
    loop {
        match exchange(path, ask, sockets).map_err(silent)? {
            Answer::Done(done) => return Ok(done),
            Answer::Refused { message, fix } => return Err(GrantedError::Refused { message, fix }.into()),
            Answer::Busy if Instant::now() < until => std::thread::sleep(PAUSE),
            Answer::Busy => return Err(silent(io::ErrorKind::ResourceBusy.into())),
        }
    }
}

fn exchange(path: &Path, ask: &Ask, sockets: &[OwnedFd]) -> io::Result<Answer> {
    let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&connection, &SocketAddrUnix::new(path)?)?;
    for which in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&connection, which, Some(PATIENCE))?;
    }
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    let text = ask.to_text();
    match sendmsg(&connection, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL) {
        // It has answered without reading, and its answer is there.
        Ok(_) | Err(Errno::PIPE) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut bytes = vec![0; MAX_BYTES];
    let (_, got) = recv(&connection, &mut bytes[..], RecvFlags::empty())?;
    let answer = std::str::from_utf8(&bytes[..got]).ok().and_then(Answer::parse);
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The sockets of a process that can serve, as [`crate::Instance::register_process`] chooses them. It takes the rights
/// over that process, and none over the instance.
///
/// # Errors
/// Those of [`crate::Instance::register_process`] that are about the process.
pub fn sockets_of_process(location: &Location, service: &str, pid: u32, at: &[Endpoint]) -> Result<Vec<OwnedFd>> {
    chosen(location, service, &format!("process {pid}"), asked(at), |look| each_socket(pid, look))
}

/// Those that systemd passed to this process, likewise.
///
/// # Errors
/// Those of [`crate::Instance::register_systemd`] that are about the process.
pub fn sockets_of_systemd(location: &Location, service: &str, at: &[Endpoint]) -> Result<Vec<OwnedFd>> {
    chosen(location, service, "systemd", asked(at), |look| each_from_systemd(look))
}

/// All sockets of a process that can serve, whatever they are bound to.
///
/// # Errors
/// Those of [`sockets_of_process`].
pub fn all_sockets_of_process(location: &Location, service: &str, pid: u32) -> Result<Vec<OwnedFd>> {
    chosen(location, service, &format!("process {pid}"), Filter::All, |look| each_socket(pid, look))
}

/// Those at some addresses, or where none is given those of one port.
fn asked(at: &[Endpoint]) -> Filter<'_> {
    if at.is_empty() { Filter::OnePort } else { Filter::At(at) }
}

fn chosen(
    location: &Location,
    service: &str,
    of: &str,
    wanted: Filter<'_>,
    all: impl FnOnce(&mut dyn FnMut(&str, OwnedFd)) -> Result<()>,
) -> Result<Vec<OwnedFd>> {
    let mut seen = Seen::new(location.netns().cookie(), wanted);
    all(&mut |name, fd| seen.look(name, fd))?;
    Ok(choose(service, of, seen)?.0.into_iter().map(|candidate| candidate.fd).collect())
}
