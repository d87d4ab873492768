//! Whether this kernel tells a program what waits in a UDP socket that a service has.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kernel::Netns;
use crate::state::create;

/// How long a datagram to oneself may take. A firewall that drops it costs so much.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether FIONREAD counts no bytes of a UDP socket that is in a map: no version tells, so it is tried with a socket that
/// sends to itself. `None`: it cannot be tried, without root or loopback.
pub(crate) fn counts_nothing(netns: &Netns) -> Option<bool> {
    netns.run(tried).ok().flatten()
}

fn tried() -> Option<bool> {
    // A connected socket gets its datagrams before any rule is asked.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.connect(socket.local_addr().ok()?).ok()?;
    let map = create("inlet_try", MapType::Sockmap, 8, 1, 0).ok()?;
    let value = (socket.as_raw_fd() as u64).to_ne_bytes();
    map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY).ok()?;
    socket.send(b"some").ok()?;
    let patience = Timespec::try_from(PATIENCE).ok()?;
    let mut waited = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    if poll(&mut waited, Some(&patience)).ok()? == 0 {
        return None;
    }
    Some(rustix::io::ioctl_fionread(&socket).ok()? == 0)
}
