//! The raw calls: what neither rustix nor libbpf-rs offers as safe functions. Nothing else in this crate is unsafe.

use std::ffi::{CString, c_int};
use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// The cookie of the network namespace of a socket (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, [0; 8]).map(u64::from_ne_bytes)
}

/// A descriptor of the process that connected to a Unix socket (`SO_PEERPIDFD`, Linux 6.5).
pub(crate) fn peer_process(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: c_int = 77;
    owned(option(socket, libc::SOL_SOCKET, SO_PEERPIDFD, [0; size_of::<c_int>()]).map(c_int::from_ne_bytes)?)
}

/// Whether an option of a socket that is a number is other than 0.
pub(crate) fn is_set(socket: BorrowedFd<'_>, level: c_int, number: c_int) -> io::Result<bool> {
    option(socket, level, number, [0; size_of::<c_int>()]).map(|value| value.iter().any(|byte| *byte != 0))
}

/// The name of the interface that a socket is bound to (`SO_BINDTODEVICE`), in the namespace of the socket.
pub(crate) fn bound_device(socket: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let name = option(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, [0; libc::IFNAMSIZ])?;
    let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
    Ok((!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned()))
}

/// The bytes of an option of a socket; `value` is what the kernel does not write.
fn option<const N: usize>(fd: BorrowedFd<'_>, level: c_int, number: c_int, mut value: [u8; N]) -> io::Result<[u8; N]> {
    let mut len = N as libc::socklen_t;
    // SAFETY: the call writes at most `len` bytes to `value`, and both outlive it.
    let ret = unsafe { libc::getsockopt(fd.as_raw_fd(), level, number, value.as_mut_ptr().cast(), &raw mut len) };
    if ret == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// libbpf returns a file descriptor or count, or a negated error number.
fn checked(ret: c_int) -> io::Result<c_int> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(ret) }
}

fn owned(ret: c_int) -> io::Result<OwnedFd> {
    let fd = checked(ret)?;
    // SAFETY: the call just made this file descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Lets this process go on when its terminal is gone.
pub(crate) fn ignore_hangup() {
    // SAFETY: no handler is set that could run; the signal is ignored from here on.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Pins an object of the bpf subsystem.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path ends in NUL and outlives the call.
    let ret = unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) };
    checked(ret).map(drop)
}

/// Opens a pinned program or link, which the kernel gives only to those who may write the pin.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path ends in NUL and outlives the call.
    owned(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })
}

/// Attaches a program to the `sk_lookup` hook of a network namespace.
pub(crate) fn link_create(program: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (program, netns) = (program.as_raw_fd(), netns.as_raw_fd());
    // SAFETY: both descriptors are open, and no options are given.
    owned(unsafe { libbpf_sys::bpf_link_create(program, netns, libbpf_sys::BPF_SK_LOOKUP, std::ptr::null()) })
}

/// Attaches a program to a control group, beside what others have attached there.
pub(crate) fn link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    kind: libbpf_sys::bpf_attach_type,
) -> io::Result<OwnedFd> {
    let (program, cgroup) = (program.as_raw_fd(), cgroup.as_raw_fd());
    // SAFETY: both descriptors are open, and no options are given.
    owned(unsafe { libbpf_sys::bpf_link_create(program, cgroup, kind, std::ptr::null()) })
}

/// Attaches a program to what leaves through an interface of the calling thread's namespace (tcx, Linux 6.6). It runs
/// before those that others have attached there, any of which may be the last.
pub(crate) fn link_egress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    let index = ifindex as c_int;
    // SAFETY: the descriptor is open; the options outlive the call.
    owned(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), index, libbpf_sys::BPF_TCX_EGRESS, &raw const opts)
    })
}

/// Begins to go through what a program iterates over: what it tells is read from the file.
pub(crate) fn iterate(program: BorrowedFd<'_>) -> io::Result<std::fs::File> {
    // SAFETY: the descriptor is open, and no options are given.
    let link = owned(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_ITER, std::ptr::null())
    })?;
    // SAFETY: the descriptor is open.
    owned(unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) }).map(Into::into)
}

/// Begins to go through the slots of a map, for each of which a program runs.
pub(crate) fn iterate_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<std::fs::File> {
    let mut info = libbpf_sys::bpf_iter_link_info::default();
    info.map.map_fd = map.as_raw_fd() as u32;
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        iter_info: &raw mut info,
        iter_info_len: size_of_val(&info) as u32,
        ..Default::default()
    };
    // SAFETY: both descriptors are open; the options and what they point to outlive the call.
    let link = owned(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_ITER, &raw const opts)
    })?;
    // SAFETY: the descriptor is open.
    owned(unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) }).map(Into::into)
}

/// What can be polled for news in a ring buffer.
pub(crate) fn epoll_of<'a>(ring: &'a libbpf_rs::RingBuffer<'_>) -> BorrowedFd<'a> {
    // SAFETY: the ring buffer keeps this descriptor open for as long as it lives, and so for as long as the borrow.
    unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) }
}

/// How many programs the kernel lets on the `sk_lookup` hook of a network namespace (`netns_bpf_max_progs`).
const MAX_LOOKUP_PROGRAMS: usize = 64;

/// The numbers of the programs on the `sk_lookup` hook of a network namespace, in the order in which they run.
pub(crate) fn lookup_programs(netns: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_LOOKUP_PROGRAMS];
    let mut count = ids.len() as u32;
    let (netns, hook) = (netns.as_raw_fd(), libbpf_sys::BPF_SK_LOOKUP);
    // SAFETY: the kernel writes at most `count` numbers to `ids`, and to `count` how many there are; both outlive the call.
    let ret = unsafe { libbpf_sys::bpf_prog_query(netns, hook, 0, null_mut(), ids.as_mut_ptr(), &raw mut count) };
    checked(ret)?;
    ids.truncate(count as usize);
    Ok(ids)
}

/// How many programs the kernel lets on a hook of an interface (`BPF_MPROG_MAX`).
const MAX_EGRESS_PROGRAMS: usize = 64;

/// The numbers of the programs of an interface of the thread's namespace that see what leaves by it, in the order in which
/// they run (Linux 6.6).
pub(crate) fn egress_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_EGRESS_PROGRAMS];
    let mut count = ids.len() as u32;
    let (index, hook) = (ifindex as c_int, libbpf_sys::BPF_TCX_EGRESS);
    // SAFETY: the kernel writes at most `count` numbers to `ids`, and to `count` how many there are; both outlive the call.
    let ret = unsafe { libbpf_sys::bpf_prog_query(index, hook, 0, null_mut(), ids.as_mut_ptr(), &raw mut count) };
    checked(ret)?;
    ids.truncate(count as usize);
    Ok(ids)
}

/// The name that a program has from its author.
pub(crate) fn program_name(program: BorrowedFd<'_>) -> io::Result<String> {
    // SAFETY: all fields are numbers, for which zero is a value: those that are addresses then ask for nothing.
    let mut info: libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as u32;
    let program = program.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes to `info`, and both outlive the call.
    checked(unsafe { libbpf_sys::bpf_obj_get_info_by_fd(program, (&raw mut info).cast(), &raw mut len) })?;
    let name: Vec<u8> = info.name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Puts another program in place of the one that a link runs, in one step.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open, and no options are given.
    let ret = unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
    checked(ret).map(drop)
}

/// Detaches a link from its namespace at once.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    checked(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// What to ask a program of the `sk_lookup` hook.
pub(crate) type LookupContext = libbpf_sys::bpf_sk_lookup;

/// Runs a program of the `sk_lookup` hook (`BPF_PROG_TEST_RUN`): its verdict; the cookie of the chosen socket is in the
/// context.
pub(crate) fn test_run(program: BorrowedFd<'_>, context: &mut LookupContext) -> io::Result<u32> {
    // SAFETY: all fields of the options are numbers or pointers, for which zero is a value.
    let mut opts: libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    opts.sz = size_of_val(&opts) as libbpf_sys::size_t;
    opts.ctx_in = (&raw const *context).cast();
    opts.ctx_size_in = size_of::<LookupContext>() as u32;
    opts.ctx_out = (&raw mut *context).cast();
    opts.ctx_size_out = size_of::<LookupContext>() as u32;
    opts.repeat = 1;
    // SAFETY: the kernel reads and writes the context within the sizes given; it outlives the call.
    checked(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) })?;
    Ok(opts.retval)
}

/// The cookie of the socket that a test run chose, 0 when it chose none.
pub(crate) fn chosen_cookie(context: &LookupContext) -> u64 {
    // SAFETY: the union holds the pointer of the hook or, after a test run, the cookie; both are 64 bits of plain data.
    unsafe { context.__bindgen_anon_1.cookie }
}

/// A map of the bpf subsystem in memory.
#[derive(Debug)]
struct Mapping {
    start: *mut u32,
    words: usize,
}

impl Mapping {
    fn new(map: BorrowedFd<'_>, words: usize, prot: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe { mmap(null_mut(), words * size_of::<u32>(), prot, MapFlags::SHARED, map, 0) }?;
        let mapping = Self { start: start.cast(), words };
        // A process that another thread forks meanwhile would hold a copy until it runs its program, and a map with a
        // writable mapping cannot be frozen.
        // SAFETY: this is exactly the mapping just made; the advice changes nothing for this process.
        unsafe { madvise(start, words * size_of::<u32>(), Advice::LinuxDontFork) }?;
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly the mapping that `new` made, and what borrowed from it is gone.
        let _ = unsafe { munmap(self.start.cast(), self.words * size_of::<u32>()) };
    }
}

/// Fills a new map, which nobody else has yet, through a mapping that is gone afterwards.
pub(crate) fn fill(map: BorrowedFd<'_>, words: usize, fill: impl FnOnce(&mut [u32])) -> io::Result<()> {
    let mapping = Mapping::new(map, words, ProtFlags::READ | ProtFlags::WRITE)?;
    // SAFETY: the mapping has this many words, is aligned to a page, zeroed by the kernel, and ours alone.
    fill(unsafe { std::slice::from_raw_parts_mut(mapping.start, words) });
    Ok(())
}

/// A frozen map in memory: nobody can change it any more.
#[derive(Debug)]
pub(crate) struct Frozen(Mapping);

impl Frozen {
    /// Maps the words of a frozen map.
    pub(crate) fn map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        Mapping::new(map, words, ProtFlags::READ).map(Self)
    }

    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: the mapping lives as long as the borrow, and its map is frozen, so the words never change.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.words) }
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and the words of a frozen map are only read.
unsafe impl Send for Frozen {}
// SAFETY: as above.
unsafe impl Sync for Frozen {}

/// A map in memory that the kernel's programs read and change too, one word of 64 bits at a time.
#[derive(Debug)]
pub(crate) struct Words(Mapping);

/// A word of 64 bits is so many of a mapping's.
const HALVES: usize = size_of::<u64>() / size_of::<u32>();

impl Words {
    /// Maps the first words of a map.
    pub(crate) fn map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        Mapping::new(map, words * HALVES, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.len(), "word {at} of {}", self.len());
        // SAFETY: the assertion keeps the place inside the mapping.
        let place = unsafe { self.0.start.add(at * HALVES) };
        // SAFETY: a mapping begins at a page, so the place is aligned; it lives as long as the borrow, and it is
        // accessed atomically here and in the kernel.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    /// How many words there are.
    pub(crate) fn len(&self) -> usize {
        self.0.words / HALVES
    }

    pub(crate) fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Puts `new` in the place of `old`; `false` when another value is there.
    pub(crate) fn replace(&self, at: usize, old: u64, new: u64) -> bool {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Stores a word; what was stored before is visible to whoever sees it.
    pub(crate) fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }
}
