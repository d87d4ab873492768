//! TCP: an echo server that tells each connection who it is and closes it, and the dialer that reads this.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, accept_with, connect, getpeername, getsockname, listen, sockopt};

use crate::answer::{Answer, line};
use crate::dial::{Deadline, Dial};
use crate::error::{Context, Result};
use crate::server::{Listen, Server, address};

const BACKLOG: i32 = 128;

/// A TCP echo server: `NAME LOCALADDR PEERADDR\n` for each connection. Derefs to [`Server`].
#[derive(Debug)]
pub struct TcpServer(Server);

impl TcpServer {
    /// Listens on `address` in the namespace of the calling thread. `name` has no blanks.
    pub fn spawn(name: &str, address: SocketAddr) -> Result<TcpServer> {
        TcpServer::spawn_with(name, address, Listen::new())
    }

    /// The same with options.
    pub fn spawn_with(name: &str, address: SocketAddr, how: Listen) -> Result<TcpServer> {
        how.sockets(SocketType::STREAM, address, |socket| Ok(listen(socket, BACKLOG)?))
            .and_then(|sockets| serve(name, sockets))
            .context("listen on tcp", address)
    }

    /// Serves a listening socket made elsewhere.
    pub fn from_socket(name: &str, socket: OwnedFd) -> Result<TcpServer> {
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(io::Error::from)
            .and_then(|()| serve(name, vec![socket]))
            .context("serve tcp socket of", name)
    }
}

impl Deref for TcpServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for TcpServer {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

impl AsFd for TcpServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn serve(name: &str, sockets: Vec<OwnedFd>) -> io::Result<TcpServer> {
    let name: Arc<str> = name.into();
    let server = Server::start(sockets, move |socket, served| tell(&name, socket, served))?;
    Ok(TcpServer(server))
}

fn tell(name: &str, listener: BorrowedFd<'_>, served: &AtomicU64) -> io::Result<()> {
    let connection = accept_with(listener, SocketFlags::CLOEXEC)?;
    let local = address(getsockname(&connection)?)?;
    let peer = getpeername(&connection)?.ok_or(io::ErrorKind::ConnectionAborted)?;
    served.fetch_add(1, Ordering::SeqCst);
    // Short enough for any send buffer, so it neither blocks nor is cut.
    rustix::io::write(&connection, &line(name, local, address(peer)?))?;
    Ok(())
}

/// Connects to `to` from the calling thread's namespace and reads who answers.
#[must_use]
pub fn dial_tcp(to: SocketAddr, how: &Dial) -> Answer {
    connect_and_read(to, how).unwrap_or_else(Answer::from)
}

fn connect_and_read(to: SocketAddr, how: &Dial) -> io::Result<Answer> {
    let deadline = how.deadline();
    let socket = how.socket(SocketType::STREAM, to)?;
    match connect(&socket, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => deadline.wait(&socket, PollFlags::OUT)?,
        Err(error) => return Err(error.into()),
    }
    sockopt::socket_error(&socket)??;
    let sender = getpeername(&socket)?.ok_or(io::ErrorKind::NotConnected)?;
    let text = read_all(&socket, deadline)?;
    Answer::parse(&text, address(sender)?)
}

fn read_all(socket: &OwnedFd, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut part = [0u8; 512];
    loop {
        match rustix::io::read(socket, &mut part) {
            Ok(0) => return Ok(text),
            Ok(len) => text.extend_from_slice(&part[..len]),
            Err(Errno::AGAIN) => deadline.wait(socket, PollFlags::IN)?,
            Err(error) => return Err(error.into()),
        }
    }
}
