//! Options of the sockets of other processes, which only the sockets themselves can tell.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use rustix::net::sockopt::socket_cookie;

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
    let mut found = HashMap::new();
    process::each(
        pid,
        |_| true,
        |_, fd| {
            if let Ok(cookie) = socket_cookie(&fd)
                && cookies.contains(&cookie)
            {
                let asks = |(level, option): &(i32, i32)| raw::is_set(fd.as_fd(), *level, *option).unwrap_or(false);
                found.insert(cookie, OPTIONS.iter().any(asks));
            }
        },
    )?;
    Ok(found)
}
