//! What both echo servers share: how their sockets are made, and the threads that serve them.
//!
//! Sockets belong to the namespace of the thread that makes them, so they are made by the caller, never by the workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use crate::error::{Context, Result};

use crate::fork::Socket;
use crate::raw;
use crate::sockaddr::canonical;

/// How a server's sockets are made. The default: one socket, no SO_REUSEPORT, a v6 socket takes v4 too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listen {
    reuseport: bool,
    v6only: bool,
    freebind: bool,
    transparent: bool,
    device: Option<&'static str>,
    more_workers: usize,
}

impl Listen {
    /// The default.
    #[must_use]
    pub fn new() -> Listen {
        Listen::default()
    }

    /// Sets SO_REUSEPORT, so that other servers can bind the same address.
    #[must_use]
    pub fn reuseport(mut self) -> Listen {
        self.reuseport = true;
        self
    }

    /// A v6 socket takes v6 only.
    #[must_use]
    pub fn v6only(mut self) -> Listen {
        self.v6only = true;
        self
    }

    /// Allows addresses that are not configured (IP_FREEBIND). A v6 address of an AnyIP prefix needs it, a v4 one does not.
    #[must_use]
    pub fn freebind(mut self) -> Listen {
        self.freebind = true;
        self
    }

    /// Takes packets for any address (IP_TRANSPARENT, IPV6_TRANSPARENT), as TPROXY needs it.
    #[must_use]
    pub fn transparent(mut self) -> Listen {
        self.transparent = true;
        self
    }

    /// Binds to an interface (SO_BINDTODEVICE).
    #[must_use]
    pub fn device(mut self, name: &'static str) -> Listen {
        self.device = Some(name);
        self
    }

    /// So many sockets (at least one) of one SO_REUSEPORT group, each with its own thread.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Listen {
        self.more_workers = count.saturating_sub(1);
        self.reuseport |= self.more_workers > 0;
        self
    }

    /// One TCP listener on `address` in the namespace of the calling thread, which does not block and which nobody serves.
    pub fn tcp(self, address: SocketAddr) -> Result<OwnedFd> {
        self.socket(SocketType::STREAM, address)
            .and_then(|socket| Ok(listen(&socket, 1024).map(|()| socket)?))
            .context("listen on tcp", address)
    }

    /// One UDP socket that is bound to `address`, likewise.
    pub fn udp(self, address: SocketAddr) -> Result<OwnedFd> {
        self.socket(SocketType::DGRAM, address).context("bind udp", address)
    }

    /// Makes the bound sockets, each passed through `finish`. With port 0 they share the port the first one got.
    pub(crate) fn sockets(
        self,
        kind: SocketType,
        mut address: SocketAddr,
        finish: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Vec<OwnedFd>> {
        (0..=self.more_workers)
            .map(|_| {
                let socket = self.socket(kind, address)?;
                finish(socket.as_fd())?;
                address.set_port(bound(&socket)?.port());
                Ok(socket)
            })
            .collect()
    }

    fn socket(self, kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
        let socket = open(kind, address)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, self.v6only)?;
            sockopt::set_ipv6_freebind(&socket, self.freebind)?;
            raw::set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_TRANSPARENT, self.transparent.into())?;
        } else {
            sockopt::set_ip_freebind(&socket, self.freebind)?;
            raw::set_int(socket.as_fd(), libc::SOL_IP, libc::IP_TRANSPARENT, self.transparent.into())?;
        }
        // A test that binds a port again must not wait for old connections to leave TIME_WAIT.
        sockopt::set_socket_reuseaddr(&socket, kind == SocketType::STREAM)?;
        sockopt::set_socket_reuseport(&socket, self.reuseport)?;
        if let Some(name) = self.device {
            raw::set_bytes(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())?;
        }
        bind(&socket, &address)?;
        Ok(socket)
    }
}

/// A non-blocking socket of the family of `address`, in the namespace of the calling thread.
pub(crate) fn open(kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, kind, flags, None)?)
}

/// A running echo server: what TCP and UDP have in common. Dropping it closes its sockets and joins its threads.
#[derive(Debug)]
pub struct Server {
    workers: Vec<Worker>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Worker {
    socket: Arc<Socket>,
    served: Arc<AtomicU64>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a thread for each socket that calls `serve` whenever the socket is readable.
    pub(crate) fn start<F>(sockets: Vec<OwnedFd>, serve: F) -> io::Result<Server>
    where
        F: Fn(BorrowedFd<'_>, &AtomicU64) -> io::Result<()> + Clone + Send + 'static,
    {
        let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut server = Server { address: bound(first)?, workers: Vec::new() };
        for socket in sockets {
            server.workers.push(Worker::start(socket, serve.clone())?);
        }
        Ok(server)
    }

    /// The address the sockets are bound to, with the port the kernel chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections or datagrams were answered. Counted before the answer leaves, so that whoever has an answer
    /// finds it counted.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served_each().iter().sum()
    }

    /// The same by worker.
    #[must_use]
    pub fn served_each(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.served.load(Ordering::SeqCst)).collect()
    }

    /// The sockets of all workers.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.workers.iter().map(|worker| worker.socket.as_fd())
    }

    /// Ends the last worker and closes its socket; the others go on. The first worker stays with the server.
    pub fn stop_one(&mut self) {
        if self.workers.len() > 1 {
            self.workers.pop();
        }
    }
}

impl Worker {
    fn start<F>(socket: OwnedFd, serve: F) -> io::Result<Worker>
    where
        F: Fn(BorrowedFd<'_>, &AtomicU64) -> io::Result<()> + Send + 'static,
    {
        let socket = Arc::new(Socket::new(socket));
        let served = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (bell, own, count) = (stop.clone(), socket.clone(), served.clone());
        let thread = thread::Builder::new()
            .name("echo".into())
            .spawn(move || work(&bell, &own, || serve(own.as_fd(), &count)))?;
        Ok(Worker { socket, served, stop, thread: Some(thread) })
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.workers[0].socket.as_fd()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(worker) = self.thread.take() {
            let ended = worker.join();
            assert!(ended.is_ok() || thread::panicking(), "an echo server failed; its thread says why");
        }
    }
}

fn work(stop: &OwnedFd, socket: &Socket, serve: impl Fn() -> io::Result<()>) {
    loop {
        let mut ready = [PollFd::new(stop, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !ready[0].revents().is_empty() => return,
            Ok(_) => {}
        }
        match serve().map_err(|error| error.kind()) {
            // Another worker was faster, or the client went away.
            Ok(()) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {}
            Err(io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused) => {}
            Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            // No route leads back: whoever asked sees that there is no answer.
            Err(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::InvalidInput) => {}
            Err(error) => panic!("echo server: {error}"),
        }
    }
}

fn bound(socket: &OwnedFd) -> io::Result<SocketAddr> {
    address(getsockname(socket)?)
}

/// A kernel address as std knows it, v4-mapped addresses as v4.
pub(crate) fn address(any: rustix::net::SocketAddrAny) -> io::Result<SocketAddr> {
    let address: SocketAddr = any.try_into()?;
    Ok(canonical(address))
}
