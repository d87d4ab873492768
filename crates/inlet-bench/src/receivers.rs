//! The sockets that packets are given to: one for each service and protocol, for both families.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use inlet::Instance;
use inlet::rules::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::Result;
use crate::rules::{SERVICES, service_name};

/// All of them, in the order of their destinations.
#[derive(Debug)]
pub(crate) struct Receivers(Vec<OwnedFd>);

/// The number of a service's socket for a protocol.
pub(crate) fn destination(service: u16, protocol: Protocol) -> u32 {
    u32::from(service) * 2 + u32::from(protocol == Protocol::Udp)
}

impl Receivers {
    /// Opens them in the namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        let kinds = [SocketType::STREAM, SocketType::DGRAM];
        let all = (0..SERVICES).flat_map(|_| kinds).map(socket).collect::<io::Result<_>>()?;
        Ok(Self(all))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// The cookie of a service's socket for a protocol.
    pub(crate) fn cookie(&self, service: &str, protocol: Protocol) -> Result<u64> {
        let index = (0..SERVICES).find(|index| service_name(*index).as_str() == service).ok_or("no such service")?;
        Ok(sockopt::socket_cookie(&self.0[destination(index, protocol) as usize])?)
    }

    /// Registers each with its service, which the ruleset in force knows.
    pub(crate) fn register(&self, instance: &mut Instance) -> Result<()> {
        for (at, socket) in self.iter().enumerate() {
            instance.register(service_name(at as u16 / 2).as_str(), socket)?;
        }
        Ok(())
    }
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
    if kind == SocketType::STREAM {
        listen(&socket, 128)?;
    }
    Ok(socket)
}
