//! The explicit form for servers over UDP that are written for it: each datagram comes with the address and port that it
//! was sent to, and each answer leaves from there. The kernel says where a datagram was sent (IP_RECVORIGDSTADDR), and
//! takes the source address of an answer (IP_PKTINFO, IPV6_PKTINFO). It takes no port: that is for the instance to set.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use rustix::net::AddressFamily;
use rustix::net::sockopt::{set_ipv6_freebind, socket_domain};

use crate::error::{Error, Result};

/// A UDP socket that tells where each datagram was sent, and answers from there.
///
/// No server needs it to answer from where it was asked. It is for those whose clients ask several addresses from one
/// port at once: without it all answers leave from where that port asked last.
///
/// ```no_run
/// # use inlet::{AskedSocket, Instance, Location, Received};
/// let socket = AskedSocket::new(std::net::UdpSocket::bind("[::]:0")?)?;
/// Instance::open(Location::default_for_this_process()?)?.register("echo", &socket)?;
/// let mut buffer = [0; 65_535];
/// loop {
///     let Received { data, cut: 0, question } = socket.receive(&mut buffer)? else { continue };
///     // That one client cannot be reached is no reason to end.
///     let _ = socket.answer(data, &question);
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What holds
/// - **The address** is the one asked, however questions are interleaved, with `answers = "bound"` too. Only a socket that
///   is bound to one address and asked there is an exception: the kernel does not tell programs whether an answer names
///   that very address. With `answers = "asked"` it leaves from where this remote port asked last.
/// - **The port** is the one the socket is bound to until a program of Inlet sets another one. With `answers = "asked"`
///   it is the port that this remote port asked last *at this address*. One that asks two ports of one address at once
///   gets both answers from the later one. A forgotten flow has the port of the socket until it asks again.
/// - **Multicast and broadcast** are no sources. Over IPv4 the answer leaves from the address of the interface that the
///   question came by; over IPv6 no source is named.
/// - It blocks, or not, as the socket did before; timeouts hold. Threads may share it.
#[derive(Debug)]
pub struct AskedSocket(UdpSocket);

/// Where a datagram came from and where it was sent: what an answer to it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    remote: SocketAddr,
    asked: SocketAddr,
    /// What the answer leaves from; `None` leaves it to the kernel.
    source: Option<IpAddr>,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What of it fits in the buffer.
    pub data: &'a [u8],
    /// How many bytes of it did not fit and are lost. Any datagram fits in 65,535 bytes.
    pub cut: usize,
    /// Who asked what.
    pub question: Question,
}

impl Question {
    /// Who asked. IPv4 is told as IPv4, also by a socket for both.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address and port that the datagram was sent to, whatever the socket is bound to. A link-local address has
    /// the interface that it came by as its scope.
    pub fn asked(&self) -> SocketAddr {
        self.asked
    }
}

impl AskedSocket {
    /// Sets the options IP_RECVORIGDSTADDR and IP_PKTINFO. A socket for IPv6 gets IPV6_RECVORIGDSTADDR too, and
    /// IPV6_FREEBIND: it may then answer from an address that is local by a route alone.
    ///
    /// # Errors
    /// [`Error::Os`] when it is no socket of IPv4 or IPv6.
    pub fn new(socket: UdpSocket) -> Result<Self> {
        set_options(&socket).map_err(Error::os(
            "have the kernel tell the addresses asked of",
            format!("socket {}", socket.as_raw_fd()),
        ))?;
        Ok(Self(socket))
    }

    /// Receives one datagram. [`Received::cut`] says what does not fit in the buffer.
    ///
    /// # Errors
    /// Those of [`UdpSocket::recv_from`]: `WouldBlock` when nothing waits or the timeout is over, `Interrupted` by a
    /// signal. `InvalidData` when somebody changed options of the socket: the datagram is lost.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        let (len, question) = self.receive_into(buffer)?;
        Ok(Received { data: &buffer[..len.min(buffer.len())], cut: len.saturating_sub(buffer.len()), question })
    }

    /// The length is that of the whole datagram.
    fn receive_into(&self, buffer: &mut [u8]) -> io::Result<(usize, Question)> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::sockaddr_in6, [libc::timespec; 3]);
        // The kernel gives nothing at once where there is room for nothing and the socket is in a map (udp_bpf_recvmsg).
        let mut spare = [0];
        let mut parts = [IoSliceMut::new(buffer), IoSliceMut::new(&mut spare)];
        let fd = self.0.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_TRUNC)?;
        let (mut asked, mut source) = (None, None);
        for part in message.cmsgs().map_err(|_| unknown("other options of the socket take its room; turn them off"))? {
            match part {
                ControlMessageOwned::Ipv4OrigDstAddr(at) => asked = Some(SocketAddr::from(SockaddrIn::from(at))),
                ControlMessageOwned::Ipv6OrigDstAddr(at) => asked = Some(SocketAddr::from(SockaddrIn6::from(at))),
                // The one to answer from, where a broadcast or multicast was asked. Not known of what came before new().
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    source = Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
                }
                _ => {}
            }
        }
        let asked = asked.ok_or_else(|| unknown("an option of the socket is off; wrap it anew"))?;
        let source = source.filter(|source| !source.is_unspecified()).map_or(asked.ip(), IpAddr::V4);
        let source = (!source.is_multicast() && source != Ipv4Addr::BROADCAST).then_some(source);
        let remote = message.address.and_then(remote_of).ok_or_else(|| unknown("nor is its sender known"))?;
        Ok((message.bytes, Question { remote, asked, source }))
    }

    /// Sends an answer from the address asked: at any time, in any order, as many as one likes.
    ///
    /// # Errors
    /// Those of [`UdpSocket::send_to`]. `InvalidInput` (EINVAL) also where the address asked is not local any more.
    pub fn answer(&self, data: &[u8], question: &Question) -> io::Result<usize> {
        let to = SockaddrStorage::from(question.remote);
        let send = |control: &[ControlMessage<'_>]| {
            sendmsg(self.0.as_raw_fd(), &[IoSlice::new(data)], control, MsgFlags::empty(), Some(&to))
        };
        let sent = match (question.source, question.asked) {
            (Some(IpAddr::V4(source)), _) => {
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
                let ipi_addr = libc::in_addr { s_addr: 0 };
                send(&[ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr })])
            }
            (Some(IpAddr::V6(source)), SocketAddr::V6(asked)) => {
                let ipi6_addr = libc::in6_addr { s6_addr: source.octets() };
                // A link-local source is one of an interface.
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: asked.scope_id() };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])
            }
            _ => send(&[]),
        };
        Ok(sent?)
    }

    /// The socket itself, with the options.
    pub fn into_inner(self) -> UdpSocket {
        self.0
    }
}

impl AsFd for AskedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for AskedSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A datagram of IPv4 obeys the options of IPv4, also on a socket for both.
fn set_options(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, sockopt::Ipv4OrigDstAddr, &true)?;
    setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    if socket_domain(socket)? == AddressFamily::INET6 {
        setsockopt(socket, sockopt::Ipv6OrigDstAddr, &true)?;
        set_ipv6_freebind(socket, true)?;
    }
    Ok(())
}

/// On a socket for both families a sender over IPv4 has its address mapped into IPv6.
fn remote_of(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || address.as_sockaddr_in().map(|at| SocketAddr::from(*at));
    let remote = address.as_sockaddr_in6().map(|at| SocketAddr::from(*at)).or_else(v4)?;
    let ip = remote.ip().to_canonical();
    Some(if ip.is_ipv4() { SocketAddr::new(ip, remote.port()) } else { remote })
}

fn unknown(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot tell where a datagram was sent: {why}"))
}
