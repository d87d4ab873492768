//! UDP: an echo server that tells each datagram's sender who it is, and the dialer that asks.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recvfrom, sendto, sockopt};

use crate::answer::{Answer, line};
use crate::dial::Dial;
use crate::error::{Context, Result};
use crate::raw;
use crate::server::{Listen, Server, address};
use crate::sockaddr::canonical;

/// A UDP echo server: `NAME LOCALADDR PEERADDR\n` for each datagram, from the address that the datagram was sent to and
/// the port that the server is bound to. Derefs to [`Server`].
#[derive(Debug)]
pub struct UdpServer(Server);

impl UdpServer {
    /// Binds `address` in the namespace of the calling thread. `name` has no blanks.
    pub fn spawn(name: &str, address: SocketAddr) -> Result<UdpServer> {
        UdpServer::spawn_with(name, address, Listen::new())
    }

    /// The same with options.
    pub fn spawn_with(name: &str, address: SocketAddr, how: Listen) -> Result<UdpServer> {
        how.sockets(SocketType::DGRAM, address, prepare)
            .and_then(|sockets| serve(name, sockets))
            .context("bind udp", address)
    }

    /// Serves a bound, unconnected socket made elsewhere; it gets the options that answering needs.
    pub fn from_socket(name: &str, socket: OwnedFd) -> Result<UdpServer> {
        prepare(socket.as_fd()).and_then(|()| serve(name, vec![socket])).context("serve udp socket of", name)
    }
}

/// Has a socket cut what it sends at once into datagrams of so many bytes (UDP_SEGMENT of udp(7)); 0 is not at all.
pub fn segment(socket: impl AsFd, bytes: u16) -> Result<()> {
    const UDP_SEGMENT: i32 = 103;
    raw::set_int(socket.as_fd(), libc::SOL_UDP, UDP_SEGMENT, bytes.into())
        .context("segment what is sent by", "a socket")
}

/// Makes a server's IPv6 socket one that asks for each datagram's address (IPV6_RECVPKTINFO of ipv6(7)) and may answer
/// only from addresses of an interface: as a server does that knows IPV6_PKTINFO and not IPV6_FREEBIND.
pub fn answer_from_interfaces(socket: impl AsFd) -> Result<()> {
    raw::set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)
        .and_then(|()| Ok(sockopt::set_ipv6_freebind(&socket, false)?))
        .context("answer from interfaces with", "a socket")
}

impl Deref for UdpServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for UdpServer {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

impl AsFd for UdpServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    // On a dual-stack socket v4 datagrams obey the v4 option, v6 datagrams the v6 one.
    raw::set_int(socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    if sockopt::socket_domain(socket)? == AddressFamily::INET6 {
        raw::set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?;
        // A v6 address that is local by route only (AnyIP) is refused in IPV6_PKTINFO without this; v4 asks the routes.
        sockopt::set_ipv6_freebind(socket, true)?;
    }
    Ok(())
}

fn serve(name: &str, sockets: Vec<OwnedFd>) -> io::Result<UdpServer> {
    let name: Arc<str> = name.into();
    let server = Server::start(sockets, move |socket, served| tell(&name, socket, served))?;
    Ok(UdpServer(server))
}

fn tell(name: &str, socket: BorrowedFd<'_>, served: &AtomicU64) -> io::Result<()> {
    let mut ignored = [0u8; 2048];
    let asked = raw::recv_datagram(socket, &mut ignored)?;
    let local = asked.local.ok_or(io::ErrorKind::WouldBlock)?;
    let mut text = line(name, canonical(local), canonical(asked.peer));
    served.fetch_add(1, Ordering::SeqCst);
    raw::send_datagram(socket, &mut text, asked.peer, local.ip())
}

/// Sends one datagram to `to` from the calling thread's namespace and takes any answer, whatever address and port it
/// comes from.
#[must_use]
pub fn dial_udp(to: SocketAddr, how: &Dial) -> Answer {
    ask(to, how).unwrap_or_else(Answer::from)
}

fn ask(to: SocketAddr, how: &Dial) -> io::Result<Answer> {
    let deadline = how.deadline();
    let socket = how.socket(SocketType::DGRAM, to)?;
    report_refusals(socket.as_fd(), to)?;
    sendto(&socket, &how.payload, SendFlags::empty(), &to)?;
    let mut text = [0u8; 2048];
    loop {
        match recvfrom(&socket, &mut text[..], RecvFlags::empty()) {
            Ok((len, _, Some(sender))) => return Answer::parse(&text[..len], address(sender)?),
            Ok((_, _, None)) => return Err(io::ErrorKind::InvalidData.into()),
            Err(Errno::AGAIN) => deadline.wait(&socket, PollFlags::IN)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connected socket hears of ICMP errors but drops answers from another port; with this option an unconnected one
/// hears of them too.
fn report_refusals(socket: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    match to {
        SocketAddr::V4(_) => raw::set_int(socket, libc::SOL_IP, libc::IP_RECVERR, 1),
        SocketAddr::V6(_) => raw::set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
    }
}
