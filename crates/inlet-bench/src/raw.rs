//! The raw calls: what neither rustix nor libbpf-rs offers as safe functions. Nothing else in this crate is unsafe.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use inlet::rules::{Packet, Protocol};

/// libbpf returns a file descriptor or count, or a negated error number.
fn checked(ret: c_int) -> io::Result<c_int> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(ret) }
}

/// Opens a pin.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the path ends in NUL and outlives the call.
    let fd = checked(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })?;
    // SAFETY: the call just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook<'a> {
    /// A control group, for the events of sockets.
    SockOps(BorrowedFd<'a>),
    /// A control group, for the sends of unconnected UDP sockets over IPv4.
    Sends(BorrowedFd<'a>),
    /// An interface of this thread's namespace, for each packet that leaves.
    Leaving(u32),
}

/// Attaches a program, for as long as the link is open.
pub(crate) fn attach(program: BorrowedFd<'_>, hook: Hook<'_>) -> io::Result<OwnedFd> {
    let (target, kind) = match hook {
        Hook::SockOps(group) => (group.as_raw_fd(), libbpf_sys::BPF_CGROUP_SOCK_OPS),
        Hook::Sends(group) => (group.as_raw_fd(), libbpf_sys::BPF_CGROUP_UDP4_SENDMSG),
        Hook::Leaving(interface) => (interface as c_int, libbpf_sys::BPF_TCX_EGRESS),
    };
    // SAFETY: the descriptors are open, and no options are given. The call takes an interface in place of a descriptor.
    let link = checked(unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), target, kind, std::ptr::null()) })?;
    // SAFETY: the call just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// What the kernel says about a program.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct ProgramInfo {
    pub(crate) verified_instructions: u32,
    pub(crate) jit_bytes: u32,
}

pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes to `info`; all lengths of further buffers in it are 0.
    checked(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) })?;
    Ok(ProgramInfo { verified_instructions: info.verified_insns, jit_bytes: info.jited_prog_len })
}

/// What to ask a program.
pub(crate) type Context = libbpf_sys::bpf_sk_lookup;

/// The context of a packet; addresses and the remote port are in network byte order, the local port is not.
pub(crate) fn context(packet: &Packet) -> Context {
    let mut context = Context {
        family: if packet.local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u32,
        protocol: match packet.protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        } as u32,
        remote_port: packet.remote.port().to_be(),
        local_port: packet.local.port().into(),
        ..Context::default()
    };
    let words = |octets: [u8; 16]| {
        std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|byte| octets[4 * i + byte])))
    };
    match (packet.local.ip(), packet.remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            context.local_ip4 = u32::from_ne_bytes(local.octets());
            context.remote_ip4 = u32::from_ne_bytes(remote.octets());
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            context.local_ip6 = words(local.octets());
            context.remote_ip6 = words(remote.octets());
        }
        _ => {}
    }
    context
}

/// What came of a test run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// The kernel's own measure: the mean, in whole nanoseconds.
    pub(crate) nanoseconds: u32,
    /// The socket that was chosen; 0 when none was.
    pub(crate) cookie: u64,
}

/// Runs a program `repeat` times.
pub(crate) fn test_run(program: BorrowedFd<'_>, context: &Context, repeat: u32) -> io::Result<Ran> {
    let mut out = Context::default();
    // SAFETY: all fields of the options are numbers or pointers, for which zero is a value.
    let mut opts: libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    opts.sz = size_of_val(&opts) as libbpf_sys::size_t;
    opts.ctx_in = (&raw const *context).cast();
    opts.ctx_size_in = size_of::<Context>() as u32;
    opts.ctx_out = (&raw mut out).cast();
    opts.ctx_size_out = size_of::<Context>() as u32;
    opts.repeat = repeat as c_int;
    // SAFETY: the kernel reads and writes the contexts within the sizes given; they outlive the call.
    checked(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) })?;
    // SAFETY: the union holds the cookie after a test run; both of its fields are plain data.
    let cookie = unsafe { out.__bindgen_anon_1.cookie };
    Ok(Ran { nanoseconds: opts.duration, cookie })
}

/// Asks the kernel not to use huge pages for the memory that a vector has allocated.
pub(crate) fn small_pages(memory: &mut Vec<u8>) {
    const PAGE: usize = 4096;
    let start = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE);
    let end = memory.as_mut_ptr() as usize + memory.capacity();
    // SAFETY: the pages are inside the allocation, and the advice changes nothing that the program can see.
    unsafe { libc::madvise(start as *mut libc::c_void, end.saturating_sub(start), libc::MADV_NOHUGEPAGE) };
}

/// The time that this thread has had a processor, in seconds.
pub(crate) fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time to the struct, which outlives it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// What the kernel says that a process or thread used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) peak_mb: f64,
    pub(crate) cpu_seconds: f64,
}

impl From<libc::rusage> for Usage {
    fn from(usage: libc::rusage) -> Self {
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
        Self {
            peak_mb: usage.ru_maxrss as f64 / 1024.0,
            cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        }
    }
}

/// Waits for a child process: whether it succeeded, and what it used.
pub(crate) fn wait(child: u32) -> io::Result<(bool, Usage)> {
    let mut status = 0;
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes the status and the usage, which outlive it.
    let ret = unsafe { libc::wait4(child as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    match ret {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, usage.into())),
    }
}

/// Maps a map of the bpf subsystem, lets `fill` write its words, and unmaps it.
pub(crate) fn fill(map: BorrowedFd<'_>, words: usize, fill: impl FnOnce(&mut [u32])) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let (prot, bytes) = (ProtFlags::READ | ProtFlags::WRITE, words * size_of::<u32>());
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe { mmap(std::ptr::null_mut(), bytes, prot, MapFlags::SHARED, map, 0) }?;
    // SAFETY: the mapping has this many words, is aligned to a page, zeroed by the kernel, and ours alone.
    fill(unsafe { std::slice::from_raw_parts_mut(start.cast(), words) });
    // SAFETY: this is exactly the mapping made above, and what borrowed from it is gone.
    unsafe { munmap(start, bytes) }?;
    Ok(())
}

/// Lets a socket receive packets for addresses that are not those of this host, as TPROXY needs (`IP_TRANSPARENT`).
pub(crate) fn set_transparent(socket: BorrowedFd<'_>) -> io::Result<()> {
    let (on, len): (c_int, _) = (1, size_of::<c_int>() as libc::socklen_t);
    let value = (&raw const on).cast();
    // SAFETY: the kernel reads `len` bytes of `on`, which outlives the call.
    let ret = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_IP, libc::IP_TRANSPARENT, value, len) };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
