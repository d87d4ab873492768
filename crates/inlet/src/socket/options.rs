//! Options of the sockets of other processes, which only the sockets themselves can tell.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use inlet_core::Protocol;
use rustix::net::sockopt::{set_ipv6_freebind, socket_cookie};

use super::inspect::Traits;
use super::process;
use crate::error::Result;
use crate::kernel::raw;

/// The options by which a program learns the address that a datagram was for, and so can answer from it (ip(7),
/// ipv6(7)).
const OPTIONS: [(i32, i32); 4] = [
    (libc::SOL_IP, libc::IP_PKTINFO),
    (libc::SOL_IP, libc::IP_ORIGDSTADDR),
    (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR),
];

/// Of these sockets those that a process has open: whether they ask for the address that a datagram was for.
pub(crate) fn pktinfo(pid: u32, cookies: &HashSet<u64>) -> Result<HashMap<u64, bool>> {
    each(pid, cookies, |set| OPTIONS.iter().any(|(level, option)| set(*level, *option)))
}

/// Of these sockets those that a process has open: whether they ask for the IPv6 address that a datagram was for, and may
/// answer only from addresses of interfaces.
pub(crate) fn bound_to_interfaces(pid: u32, cookies: &HashSet<u64>) -> Result<HashMap<u64, bool>> {
    const ANY: [i32; 2] = [libc::IPV6_FREEBIND, libc::IPV6_TRANSPARENT];
    each(pid, cookies, |set| {
        let asks = set(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO);
        asks && !ANY.iter().any(|option| set(libc::SOL_IPV6, *option))
    })
}

/// What is so by the options of each socket, which are asked by level and number.
fn each(
    pid: u32,
    cookies: &HashSet<u64>,
    is_so: impl Fn(&dyn Fn(i32, i32) -> bool) -> bool,
) -> Result<HashMap<u64, bool>> {
    let mut found = HashMap::new();
    process::each(
        pid,
        |_| true,
        |_, fd| {
            if let Ok(cookie) = socket_cookie(&fd)
                && cookies.contains(&cookie)
            {
                let set = |level, option| raw::is_set(fd.as_fd(), level, option).unwrap_or(false);
                found.insert(cookie, is_so(&set));
            }
        },
    )?;
    Ok(found)
}

/// Lets a program answer over UDP from each address of its service by IPV6_PKTINFO. The kernel refuses an address there that is
/// local by a route alone, unless the socket may have any (ip(7), IP_FREEBIND). Over IPv4 it asks the routes.
pub(crate) fn answer_from_anywhere(socket: impl AsFd, traits: &Traits) {
    if traits.v6 && traits.endpoint.protocol() == Protocol::Udp {
        // Without it the socket answers as it did before.
        let _ = set_ipv6_freebind(socket, true);
    }
}
