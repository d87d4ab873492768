//! The server: it takes connections, reads one request of each, and lets it be decided.
//!
//! Callers are trusted with nothing. Of each user only a few requests are under way, and of all together only so many as
//! descriptors last for. Each has a thread of its own: closing what a caller passed may block, and then blocks only what
//! that user asks for. Changes are made one after the other.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_acceptconn, socket_peercred, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, send, socket_with,
};

use super::caller::Caller;
use super::decide::carry_out;
use super::message::{Answer, Ask, MAX_BYTES, MAX_SOCKETS};
use crate::error::{Error, GrantedError, Result};
use crate::socket::each_from_systemd;
use crate::state::Location;

/// How many requests of one user, and of all users, are under way at a time. With the sockets of each there are enough of
/// the 1,024 descriptors that a process has.
const OF_ONE_USER: usize = 4;
const OF_ALL: usize = 24;
/// How long a caller may take to send its request, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one waits who was refused, so that nobody keeps the server busy with what it may not.
const PENALTY: Duration = Duration::from_millis(100);

/// What all requests share.
struct Shared {
    location: Location,
    /// How many requests of each user are under way.
    users: Mutex<HashMap<u32, usize>>,
    /// Held while something is decided and done.
    deciding: Mutex<()>,
    log: fn(&str),
}

/// A request that is under way.
struct Admitted(Arc<Shared>, u32);

impl Admitted {
    /// `None` when too many are.
    fn new(shared: &Arc<Shared>, uid: u32) -> Option<Self> {
        let mut users = shared.users.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.values().sum();
        let own = users.entry(uid).or_default();
        if all >= OF_ALL || *own >= OF_ONE_USER {
            return None;
        }
        *own += 1;
        Some(Self(shared.clone(), uid))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = users.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                users.remove(&self.1);
            }
        }
    }
}

/// A listener at a path, for anybody to connect to. A socket that a former server left at the path is replaced.
///
/// # Errors
/// [`GrantedError::InTheWay`], and those of the kernel.
pub fn listen_for_requests(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    make_way(path)?;
    let failed = |errno: Errno| Error::at::<Errno>("listen at", path)(errno);
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    bind(&listener, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    listen(&listener, 4096).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(Error::at("open up", path))?;
    Ok(listener)
}

/// Removes a socket that nobody listens at. Everything else is somebody's and stays.
fn make_way(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = match std::fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::at("look at", path))?.file_type(),
    };
    let in_the_way = |what| Err(GrantedError::InTheWay { path: path.to_owned(), what }.into());
    if !kind.is_socket() {
        return in_the_way("something that is not a socket");
    }
    let failed = |errno: Errno| Error::at::<Errno>("look at", path)(errno);
    let probe = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    match connect(&probe, &SocketAddrUnix::new(path).map_err(failed)?) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(Error::at("replace", path)),
        // Another type of socket is somebody's too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => in_the_way("a socket that a program listens at"),
        Err(errno) => Err(failed(errno)),
    }
}

/// The listener that systemd passed to this process.
///
/// # Errors
/// [`crate::SocketError::NoListenFds`] when it passed none, and [`GrantedError::NotListening`].
pub fn listener_from_systemd() -> Result<OwnedFd> {
    let mut found = Vec::new();
    each_from_systemd(|name, fd| found.push((name.to_owned(), fd)))?;
    let is_one = |fd: &OwnedFd| {
        socket_type(fd).is_ok_and(|kind| kind == SocketType::SEQPACKET) && socket_acceptconn(fd).is_ok_and(|is| is)
    };
    match found.pop() {
        Some((_, listener)) if found.is_empty() && is_one(&listener) => Ok(listener),
        other => {
            let name = other.map_or_else(|| "nothing".to_owned(), |(name, _)| name);
            Err(GrantedError::NotListening(format!("what systemd passed ({name})")).into())
        }
    }
}

/// Serves requests. Each decision goes to `log` in one line. It ends when nobody asked for as long as `idle` says.
///
/// # Errors
/// When the listener fails.
pub fn serve_grants(listener: &OwnedFd, location: &Location, idle: Option<Duration>, log: fn(&str)) -> Result<()> {
    let shared = Shared { location: location.clone(), users: Mutex::default(), deciding: Mutex::new(()), log };
    let shared = Arc::new(shared);
    let idle = idle.and_then(|idle| Timespec::try_from(idle).ok());
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut ready, idle.as_ref()) {
            Ok(0) if shared.users.lock().unwrap_or_else(PoisonError::into_inner).is_empty() => return Ok(()),
            Ok(0) | Err(Errno::INTR) => continue,
            polled => _ = polled.map_err(Error::os("wait for", "requests"))?,
        }
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => take(&shared, connection),
            // The caller went; or descriptors are short until requests that are under way end.
            Err(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => std::thread::sleep(PENALTY),
            Err(errno) => return Err(Error::os("take", "a connection")(errno)),
        }
    }
}

/// Begins with a connection, or says that too many requests are under way.
fn take(shared: &Arc<Shared>, connection: OwnedFd) {
    let Ok(peer) = socket_peercred(&connection) else { return };
    let begun = Admitted::new(shared, peer.uid.as_raw()).map(|admitted| {
        let connection = connection.try_clone();
        std::thread::Builder::new().spawn(move || connection.map(|connection| serve(&admitted, &connection)))
    });
    if !matches!(begun, Some(Ok(_))) {
        // It must not wait for one who does not read.
        let _ = send(&connection, Answer::Busy.to_text().as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

fn serve(admitted: &Admitted, connection: &OwnedFd) {
    let shared = &admitted.0;
    let Ok(caller) = Caller::of(connection.as_fd()) else { return };
    let timeouts = [Timeout::Recv, Timeout::Send].map(|which| set_socket_timeout(connection, which, Some(PATIENCE)));
    if timeouts.iter().any(std::result::Result::is_err) {
        return;
    }
    let (asked, sockets) = match receive(connection) {
        Ok(Some(received)) => received,
        // It went, or it does not say anything.
        Ok(None) | Err(Errno::AGAIN) => return,
        Err(_) => (Err(GrantedError::Malformed("it is too long, or has too many descriptors")), Vec::new()),
    };
    let text = asked.as_ref().map_or_else(|_| "what cannot be read".to_owned(), described);
    let done = asked.map_err(Error::from).and_then(|ask| {
        let _one_at_a_time = shared.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        carry_out(&shared.location, &caller, &ask, &sockets)
    });
    let answer = match done {
        Ok(done) => {
            (shared.log)(&format!("granted: {caller}: {text}: {}", done.lines.join("; ")));
            Answer::Done(done)
        }
        Err(error) => {
            (shared.log)(&format!("refused: {caller}: {text}: {error}"));
            std::thread::sleep(PENALTY);
            Answer::Refused { message: error.to_string(), fix: error.remedy().map(std::borrow::Cow::into_owned) }
        }
    };
    let _ = send(connection, answer.to_text().as_bytes(), SendFlags::NOSIGNAL);
    // Closing what was passed may block. Nothing is held any more that others wait for.
    drop(sockets);
}

/// What is asked for, in the words of the command.
fn described(ask: &Ask) -> String {
    match ask {
        Ask::Register(service) => format!("register {service}"),
        Ask::Unregister(service) => format!("unregister {service}"),
        Ask::Bind(service, selector) => format!("bind {service} {selector}"),
        Ask::Unbind(selector) => format!("unbind {selector}"),
    }
}

type Received = (std::result::Result<Ask, GrantedError>, Vec<OwnedFd>);

/// A request with its sockets; `None` when the caller sends none.
fn receive(connection: &OwnedFd) -> rustix::io::Result<Option<Received>> {
    // One byte more tells a message that is too long.
    let mut bytes = vec![0; MAX_BYTES + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    if got.bytes == 0 && sockets.is_empty() {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || got.bytes > MAX_BYTES {
        return Err(Errno::MSGSIZE);
    }
    let text = std::str::from_utf8(&bytes[..got.bytes]).map_err(|_| GrantedError::Malformed("it is no text"));
    let asked = text.and_then(Ask::parse).and_then(|ask| match ask.has_sockets() != sockets.is_empty() {
        true => Ok(ask),
        false => Err(GrantedError::Malformed("sockets go with register and unregister, and with nothing else")),
    });
    Ok(Some((asked, sockets)))
}
