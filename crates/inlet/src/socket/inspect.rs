//! Whether a file descriptor is a socket that can be adopted, and if not, why.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use inlet_core::{Endpoint, Protocol};
use rustix::io::Errno;
use rustix::net::sockopt::{
    ipv6_v6only, socket_acceptconn, socket_cookie, socket_domain, socket_protocol, socket_type,
};
use rustix::net::{AddressFamily, SocketType, getpeername, getsockname, ipproto};

use crate::error::{Refusal, Refused};
use crate::kernel::raw;

/// A socket that can be adopted.
#[derive(Debug)]
pub(crate) struct Candidate<F> {
    pub(crate) fd: F,
    pub(crate) traits: Traits,
}

/// What there is to know of a socket that can be adopted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) endpoint: Endpoint,
    pub(crate) cookie: u64,
    /// Whether it serves IPv4 packets.
    pub(crate) v4: bool,
    /// Whether it serves IPv6 packets.
    pub(crate) v6: bool,
}

/// Looks at a file descriptor. `netns` is the cookie of the instance's namespace.
fn inspect(fd: BorrowedFd<'_>, netns: u64) -> Result<Traits, Refusal> {
    let family = socket_domain(fd).map_err(refusal)?;
    let protocol = protocol(fd, family)?;
    if raw::netns_cookie(fd).map_err(|cause| refusal(errno(&cause)))? != netns {
        return Err(Refusal::OtherNamespace);
    }
    let connected = getpeername(fd).is_ok();
    match (protocol, connected) {
        (_, true) => return Err(Refusal::Connected),
        (Protocol::Tcp, false) if !socket_acceptconn(fd).map_err(refusal)? => return Err(Refusal::NotListening),
        _ => {}
    }
    let addr = local_addr(fd)?;
    if addr.port() == 0 {
        return Err(Refusal::NotBound);
    }
    let v6only = family == AddressFamily::INET6 && ipv6_v6only(fd).map_err(refusal)?;
    let (v4, v6) = families(addr.ip(), v6only);
    let cookie = socket_cookie(fd).map_err(refusal)?;
    let device = raw::bound_device(fd).map_err(|cause| refusal(errno(&cause)))?.and_then(|name| name.parse().ok());
    Ok(Traits { endpoint: Endpoint::new(protocol, addr).on(device), cookie, v4, v6 })
}

/// The local address of any socket, for naming it.
fn describe(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    local_addr(fd).ok()
}

fn protocol(fd: BorrowedFd<'_>, family: AddressFamily) -> Result<Protocol, Refusal> {
    let kind = socket_type(fd).map_err(refusal)?;
    let protocol = socket_protocol(fd).map_err(refusal)?;
    match (family, kind, protocol) {
        (AddressFamily::UNIX, _, _) => Err(Refusal::Unix),
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM, Some(ipproto::TCP)) => Ok(Protocol::Tcp),
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM, Some(ipproto::UDP)) => Ok(Protocol::Udp),
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM, Some(ipproto::MPTCP)) => Err(Refusal::Mptcp),
        (_, SocketType::RAW, _) => Err(Refusal::Raw),
        _ => Err(Refusal::OtherKind),
    }
}

fn local_addr(fd: BorrowedFd<'_>) -> Result<SocketAddr, Refusal> {
    getsockname(fd).map_err(refusal)?.try_into().map_err(|_| Refusal::OtherKind)
}

/// Which families' packets the socket is for. A dual-stack socket serves both when it is bound to every address, and
/// IPv4 only when it is bound to an IPv4-mapped one.
fn families(local: IpAddr, v6only: bool) -> (bool, bool) {
    match local {
        IpAddr::V4(_) => (true, false),
        IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some() => (true, false),
        IpAddr::V6(addr) => (addr.is_unspecified() && !v6only, true),
    }
}

fn refusal(errno: Errno) -> Refusal {
    if errno == Errno::NOTSOCK { Refusal::NotASocket } else { Refusal::Unknown(errno) }
}

fn errno(cause: &std::io::Error) -> Errno {
    Errno::from_io_error(cause).unwrap_or(Errno::IO)
}

/// Which of the sockets that can be adopted are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter<'a> {
    /// All.
    All,
    /// Those at these endpoints.
    At(&'a [Endpoint]),
    /// All, if those of a protocol are at one port.
    OnePort,
}

/// The sockets among some descriptors. Only the wanted ones stay open: a busy server has more than a process may hold.
#[derive(Debug)]
pub(crate) struct Seen<'a, F> {
    netns: u64,
    pub(crate) wanted: Filter<'a>,
    /// Those that can be adopted.
    pub(crate) candidates: Vec<Candidate<F>>,
    /// Where those are that could be adopted and are not wanted.
    pub(crate) others: BTreeSet<Endpoint>,
    /// Those that cannot be adopted.
    pub(crate) refused: Vec<Refused>,
}

impl<'a, F: AsFd> Seen<'a, F> {
    /// Nothing was looked at so far. `netns` is the cookie of the instance's namespace.
    pub(crate) fn new(netns: u64, wanted: Filter<'a>) -> Self {
        Self { netns, wanted, candidates: Vec::new(), others: BTreeSet::new(), refused: Vec::new() }
    }

    /// Looks at a descriptor; messages call it by its name.
    pub(crate) fn look(&mut self, name: &str, fd: F) {
        match inspect(fd.as_fd(), self.netns) {
            Ok(traits) if self.candidates.iter().any(|known| known.traits.cookie == traits.cookie) => {}
            Ok(traits) if self.wants(traits.endpoint) => self.candidates.push(Candidate { fd, traits }),
            Ok(traits) => _ = self.others.insert(traits.endpoint),
            Err(reason) => {
                let what = describe(fd.as_fd()).map_or_else(|| name.to_owned(), |addr| format!("{name} ({addr})"));
                self.refused.push(Refused { what, reason });
            }
        }
    }

    fn wants(&self, endpoint: Endpoint) -> bool {
        match self.wanted {
            Filter::All => true,
            Filter::At(listen) => listen.iter().any(|listen| listen.means(&endpoint)),
            Filter::OnePort => {
                let mut known = self.candidates.iter().map(|candidate| candidate.traits.endpoint);
                let first = known.find(|known| known.protocol() == endpoint.protocol());
                first.is_none_or(|first| first.addr().port() == endpoint.addr().port())
            }
        }
    }
}
