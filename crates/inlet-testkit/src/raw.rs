//! The calls that have no safe form in rustix. All `unsafe` of the kit is here; nothing here decides anything.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::UnshareFlags;

use crate::sockaddr;

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_net() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)
}

/// Moves the calling thread into a copy of its mount namespace.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::FS)
}

/// Gives the calling thread a working directory and root of its own, as `setns` to a mount namespace demands.
pub(crate) fn unshare_fs() -> io::Result<()> {
    unshare(UnshareFlags::FS)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the danger is a thread whose descriptors other threads cannot see (CLONE_FILES), which is never passed.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Runs `step` in the child between fork and exec. `step` must only make system calls: no allocation, no locks.
pub(crate) fn before_exec(command: &mut Command, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: every caller in this crate passes a closure of plain system calls over data made before the fork.
    unsafe { command.pre_exec(step) };
}

/// Sets a socket option whose value is an `int`.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

/// Sets a socket option whose value is a run of bytes.
pub(crate) fn set_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets one value of an interface of the calling thread's namespace (SIOCETHTOOL of linux/ethtool.h).
pub(crate) fn ethtool(socket: BorrowedFd<'_>, interface: &str, command: u32, value: u32) -> io::Result<()> {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    let mut request: [u32; 2] = [command, value];
    // SAFETY: ifreq is plain C data of integers and pointers, for which all zeroes is a value.
    let mut ifreq: libc::ifreq = unsafe { mem::zeroed() };
    let name = interface.as_bytes();
    ifreq.ifr_name.iter_mut().zip(name).take(libc::IFNAMSIZ - 1).for_each(|(to, byte)| *to = *byte as libc::c_char);
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: the request and the value that it points to are live; the kernel reads and writes no more than these.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut ifreq) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A datagram as it arrived; the addresses are as the kernel gave them, so maybe v4-mapped.
pub(crate) struct Datagram {
    /// Who sent it.
    pub(crate) peer: SocketAddr,
    /// Where it was sent to, if the socket asks for the original destination.
    pub(crate) local: Option<SocketAddr>,
}

/// Receives one datagram with its original destination.
pub(crate) fn recv_datagram(fd: BorrowedFd<'_>, payload: &mut [u8]) -> io::Result<Datagram> {
    let mut name = [0u8; sockaddr::MAX];
    let mut control = [0u64; 32];
    let mut part = iovec(payload);
    let mut message = message(&mut name, &mut part);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: name, part (over payload) and control are live buffers of the lengths given, borrowed until after the call.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // What the kernel did not fill is zeroes, which are no message.
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let peer = sockaddr::decode(&name).ok_or(io::ErrorKind::InvalidData)?;
    let local = sockaddr::original_destination(&control);
    Ok(Datagram { peer, local })
}

/// Sends one datagram that leaves from `from`.
pub(crate) fn send_datagram(fd: BorrowedFd<'_>, payload: &mut [u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
    let mut name = [0u8; sockaddr::MAX];
    let name_len = sockaddr::encode(to, &mut name);
    let mut control = sockaddr::pktinfo(to, from);
    let mut part = iovec(payload);
    let mut message = message(&mut name[..name_len], &mut part);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len() as _;
    // SAFETY: name, part (over payload) and control are live buffers of the lengths given; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn iovec(payload: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() }
}

fn message(name: &mut [u8], part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is plain C data of integers and pointers, for which all zeroes is "no buffers".
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}
