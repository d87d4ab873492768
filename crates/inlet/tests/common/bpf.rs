//! Programs of a few instructions, loaded without a compiler: the other users of the kernel's hooks that Inlet meets.

use std::ffi::c_int;
use std::io;
use std::mem::size_of_val;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use libbpf_sys::{
    BPF_FUNC_map_lookup_elem, BPF_FUNC_sk_assign, BPF_FUNC_sk_release, BPF_FUNC_skc_lookup_tcp,
    BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_SK_LOOKUP, BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_LOOKUP,
    BPF_SK_REUSEPORT_SELECT,
};

/// `struct bpf_insn` of linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Insn {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    value: i32,
}

pub(super) const fn insn(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Insn {
    Insn { code, registers: destination | source << 4, offset, value }
}

pub(super) const fn set(register: u8, value: i32) -> Insn {
    insn(0xb7, register, 0, 0, value)
}

pub(super) const fn copy(to: u8, from: u8) -> Insn {
    insn(0xbf, to, from, 0, 0)
}

pub(super) const fn add(register: u8, value: i32) -> Insn {
    insn(0x07, register, 0, 0, value)
}

/// Stores a word at the frame pointer plus the offset.
pub(super) const fn store(offset: i16, value: i32) -> Insn {
    insn(0x62, 10, 0, offset, value)
}

pub(super) const fn load_word(to: u8, from: u8, offset: i16) -> Insn {
    insn(0x61, to, from, offset, 0)
}

pub(super) const fn call(function: u32) -> Insn {
    insn(0x85, 0, 0, 0, function as i32)
}

/// Goes past so many instructions when r0 is 0.
const fn skip_if_null(instructions: i16) -> Insn {
    insn(0x15, 0, 0, instructions, 0)
}

pub(super) const EXIT: Insn = insn(0x95, 0, 0, 0, 0);

fn owned(ret: c_int) -> io::Result<OwnedFd> {
    if ret < 0 {
        return Err(io::Error::from_raw_os_error(-ret));
    }
    // SAFETY: the call just made this file descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}

pub(super) fn load(kind: u32, attach: u32, instructions: &[Insn]) -> OwnedFd {
    let mut opts = libbpf_sys::bpf_prog_load_opts::default();
    opts.sz = size_of_val(&opts) as libbpf_sys::size_t;
    opts.expected_attach_type = attach;
    // SAFETY: the instructions have the layout of the kernel's; they, the names and the options outlive the call.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"test".as_ptr(),
            c"Dual BSD/GPL".as_ptr(),
            instructions.as_ptr().cast(),
            instructions.len() as libbpf_sys::size_t,
            &raw mut opts,
        )
    };
    owned(fd).unwrap()
}

/// A program of the `sk_lookup` hook that lets every packet pass.
pub(crate) fn passing() -> OwnedFd {
    load(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, &[set(0, 1), EXIT])
}

/// A program of the `sk_lookup` hook that refuses every packet.
pub(crate) fn refusing() -> OwnedFd {
    load(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, &[set(0, 0), EXIT])
}

/// A program of the `sk_lookup` hook that gives every packet to this socket, and the map that it finds it in.
pub(crate) fn choosing(socket: BorrowedFd<'_>) -> (OwnedFd, MapHandle) {
    choosing_with(socket, 0)
}

/// The same in place of a socket that an earlier program chose (`BPF_SK_LOOKUP_F_REPLACE`).
pub(crate) fn replacing(socket: BorrowedFd<'_>) -> (OwnedFd, MapHandle) {
    choosing_with(socket, 1)
}

fn choosing_with(socket: BorrowedFd<'_>, flags: i32) -> (OwnedFd, MapHandle) {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::Sockmap, Some("test"), 4, 8, 1, &opts).unwrap();
    let value = (socket.as_raw_fd() as u64).to_ne_bytes();
    map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY).unwrap();
    (choosing_from(&map, flags), map)
}

/// A program of the `sk_lookup` hook that gives every packet to the socket in the first slot of a map.
pub(crate) fn choosing_from(map: &MapHandle, flags: i32) -> OwnedFd {
    load(
        BPF_PROG_TYPE_SK_LOOKUP,
        BPF_SK_LOOKUP,
        &[
            copy(6, 1),
            // The map, which takes two instructions.
            insn(0x18, 1, 1, 0, map.as_fd().as_raw_fd()),
            insn(0, 0, 0, 0, 0),
            store(-4, 0),
            copy(2, 10),
            add(2, -4),
            call(BPF_FUNC_map_lookup_elem),
            skip_if_null(7),
            copy(7, 0),
            copy(1, 6),
            copy(2, 7),
            set(3, flags),
            call(BPF_FUNC_sk_assign),
            copy(1, 7),
            call(BPF_FUNC_sk_release),
            set(0, 1),
            EXIT,
        ],
    )
}

/// A map of sockets with this one, as programs of a SO_REUSEPORT group choose from.
pub(crate) fn map_of_sockets(kind: MapType, socket: BorrowedFd<'_>) -> libbpf_rs::Result<MapHandle> {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let map = MapHandle::create(kind, Some("test"), 4, 8, 1, &opts).unwrap();
    let value = (socket.as_raw_fd() as u64).to_ne_bytes();
    map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY).map(|()| map)
}

/// A program of a SO_REUSEPORT group that has a map, and leaves the choice to the kernel.
pub(crate) fn selecting(map: BorrowedFd<'_>) -> OwnedFd {
    let map = [insn(0x18, 1, 1, 0, map.as_raw_fd()), insn(0, 0, 0, 0, 0)];
    load(BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT, &[map[0], map[1], set(0, 1), EXIT])
}

/// The same without a map.
pub(crate) fn selecting_none() -> OwnedFd {
    load(BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT, &[set(0, 1), EXIT])
}

/// Attaches a program to the SO_REUSEPORT group of a socket.
pub(crate) fn attach_to_group(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) {
    let program: c_int = program.as_raw_fd();
    // SAFETY: the option reads a number, which outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_EBPF,
            (&raw const program).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
}

/// A program for what leaves through an interface that ends with `TCX_PASS`, in front of all others until it is dropped.
pub(crate) fn in_front(ifindex: u32) -> OwnedFd {
    let program = load(libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, 0, &[set(0, 0), EXIT]);
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    let (program, index) = (program.as_raw_fd(), ifindex as c_int);
    // SAFETY: the descriptor is open, and the options outlive the call.
    owned(unsafe { libbpf_sys::bpf_link_create(program, index, libbpf_sys::BPF_TCX_EGRESS, &raw const opts) }).unwrap()
}

/// Attaches a program of the `sk_lookup` hook to a namespace, until the link is dropped.
pub(crate) fn attach(program: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> OwnedFd {
    // SAFETY: both descriptors are open, and no options are given.
    let link =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), netns.as_raw_fd(), BPF_SK_LOOKUP, std::ptr::null()) };
    owned(link).unwrap()
}

fn open_pin(path: &Path) -> OwnedFd {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path ends in NUL and outlives the call.
    owned(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) }).unwrap()
}

/// Puts another program on a pinned link, as no command of Inlet would.
pub(crate) fn usurp(link: &Path, program: BorrowedFd<'_>) {
    let link = open_pin(link);
    // SAFETY: both descriptors are open, and no options are given.
    let ret = unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
    assert_eq!(ret, 0);
}

/// Holds a pinned link, as a process does that has it open.
pub(crate) fn hold(link: &Path) -> OwnedFd {
    open_pin(link)
}

/// Detaches a pinned link by force, as `bpftool link detach` does.
pub(crate) fn detach(link: &Path) {
    let link = open_pin(link);
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) }, 0);
}

/// The inode number of the namespace that a pinned link is attached to; 0 when it is attached to none any more.
pub(crate) fn namespace_of(link: &Path) -> u32 {
    let info = libbpf_rs::query::LinkInfo::from_fd(open_pin(link).as_fd()).unwrap();
    match info.info {
        libbpf_rs::query::LinkTypeInfo::NetNs(netns) => netns.ino,
        other => panic!("{other:?}"),
    }
}

/// A listener as `bpf_skc_lookup_tcp` finds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) port: u16,
    /// Of include/net/tcp_states.h.
    pub(crate) state: u8,
}

/// Asks as a tc program would which socket a SYN from `remote` to `local` meets, in the namespace of this thread.
pub(crate) fn skc_lookup_tcp(local: SocketAddr, remote: SocketAddr) -> Option<Found> {
    // Offsets in `struct bpf_sock` of linux/bpf.h.
    const SRC_PORT: i16 = 44;
    const STATE: i16 = 72;
    let tuple = tuple(local, remote);
    let start = -(tuple.len() as i16);
    let mut instructions = vec![copy(6, 1)];
    for (word, offset) in tuple.chunks_exact(4).zip((start..).step_by(4)) {
        instructions.push(store(offset, i32::from_ne_bytes(word.try_into().unwrap())));
    }
    instructions.extend([
        copy(1, 6),
        copy(2, 10),
        add(2, start.into()),
        set(3, tuple.len() as i32),
        set(4, -1), // BPF_F_CURRENT_NETNS
        set(5, 0),
        call(BPF_FUNC_skc_lookup_tcp),
        skip_if_null(8),
        copy(7, 0),
        load_word(8, 7, SRC_PORT),
        load_word(9, 7, STATE),
        insn(0x67, 9, 0, 0, 16), // r9 <<= 16
        insn(0x4f, 8, 9, 0, 0),  // r8 |= r9
        copy(1, 7),
        call(BPF_FUNC_sk_release),
        copy(0, 8),
        EXIT,
    ]);
    let program = load(BPF_PROG_TYPE_SCHED_CLS, 0, &instructions);
    match run_on_packet(program.as_fd()) {
        0 => None,
        found => Some(Found { port: found as u16, state: (found >> 16) as u8 }),
    }
}

/// `struct bpf_sock_tuple` of linux/bpf.h: addresses and ports in network order, the remote side first. A multiple of 4
/// bytes long for both families.
fn tuple(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let ip = |addr: SocketAddr| match addr {
        SocketAddr::V4(addr) => addr.ip().octets().to_vec(),
        SocketAddr::V6(addr) => addr.ip().octets().to_vec(),
    };
    let mut bytes = [ip(remote), ip(local)].concat();
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes
}

/// Runs a tc program on some packet (`BPF_PROG_TEST_RUN`) and gives what it returned.
fn run_on_packet(program: BorrowedFd<'_>) -> u32 {
    let packet = [0_u8; 64];
    let mut opts = libbpf_sys::bpf_test_run_opts::default();
    opts.sz = size_of_val(&opts) as libbpf_sys::size_t;
    opts.data_in = packet.as_ptr().cast();
    opts.data_size_in = packet.len() as u32;
    opts.repeat = 1;
    // SAFETY: the kernel reads the packet within the size given; packet and options outlive the call.
    let ret = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    assert_eq!(ret, 0, "{}", io::Error::last_os_error());
    opts.retval
}
