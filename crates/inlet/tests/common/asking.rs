//! A program on an interface that asks, for each packet to a port, which socket would receive it, as a load balancer in
//! XDP or tc does; and whether a packet of TCP answers a syncookie.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use inlet::rules::Protocol;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use libbpf_sys::{
    BPF_FUNC_map_lookup_elem, BPF_FUNC_map_update_elem, BPF_FUNC_sk_lookup_udp, BPF_FUNC_sk_release,
    BPF_FUNC_skc_lookup_tcp, BPF_FUNC_tcp_check_syncookie, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP,
};

use super::bpf::{EXIT, Insn, add, call, copy, insn, load, load_word, set};

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Xdp,
    Tc,
}

/// A loaded program, pinned for `ip` and `tc`, and what it has counted.
pub(crate) struct Asking {
    counts: MapHandle,
    program: OwnedFd,
}

/// What was found for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Met {
    /// The local port of the socket; 0 for none.
    pub(crate) port: u16,
    /// Whether the packet answers a syncookie of that listener.
    pub(crate) cookie: bool,
}

const ETHERNET: i16 = 14;
/// What a value on the stack begins at: the tuple, then key and value of the map.
const TUPLE: i16 = -48;
const KEY: i16 = -4;
const ONE: i16 = -16;
/// `src_port` in `struct bpf_sock`.
const SRC_PORT: i16 = 44;

/// The map, which takes two instructions.
fn map(register: u8, map: &MapHandle) -> [Insn; 2] {
    [insn(0x18, register, 1, 0, map.as_fd().as_raw_fd()), insn(0, 0, 0, 0, 0)]
}

/// Jumps over so many instructions when the register is not this number.
fn unless(register: u8, number: i32, over: i16) -> Insn {
    insn(0x55, register, 0, over, number)
}

/// Copies words of the packet to the stack.
fn words(packet: i16, stack: i16, count: i16) -> impl Iterator<Item = Insn> {
    (0..count).flat_map(move |word| {
        let [from, to] = [packet + 4 * word, stack + 4 * word];
        [load_word(1, 7, from), insn(0x63, 10, 1, to, 0)]
    })
}

impl Asking {
    /// Loads a program for packets of a protocol and family to a port.
    pub(crate) fn load(at: At, protocol: Protocol, v6: bool, port: u16) -> Self {
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let counts = MapHandle::create(MapType::Hash, Some("test"), 4, 8, 64, &opts).unwrap();
        let (kind, [data, end], pass) = match at {
            At::Xdp => (BPF_PROG_TYPE_XDP, [0, 4], 2),
            At::Tc => (BPF_PROG_TYPE_SCHED_CLS, [76, 80], 0),
        };
        let tcp = protocol == Protocol::Tcp;
        let (ethertype, header, next) = if v6 { (0x86dd_u16, 40, 6) } else { (0x0800, 20, 9) };
        let transport = ETHERNET + header;
        let length = transport + if tcp { 20 } else { 8 };
        // The words of the tuple: both addresses and the ports, as they stand in the packet.
        let (addresses, count) = if v6 { (ETHERNET + 8, 8) } else { (ETHERNET + 12, 2) };
        let size = 4 * (count + 1);
        let body: Vec<Insn> = words(addresses, TUPLE, count)
            .chain(words(transport, TUPLE + 4 * count, 1))
            .chain([copy(1, 6), copy(2, 10), add(2, TUPLE.into()), set(3, size.into()), set(4, -1), set(5, 0)])
            .chain([call(if tcp { BPF_FUNC_skc_lookup_tcp } else { BPF_FUNC_sk_lookup_udp }), set(8, 0)])
            .chain(found(tcp, header, transport))
            .chain([insn(0x63, 10, 8, KEY, 0)])
            .chain(count_key(&counts))
            .collect();
        let over = body.len() as i16;
        let ours = [
            (0x69, ETHERNET - 2, i32::from(ethertype.to_be())),
            (0x71, ETHERNET + next, if tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP }),
            (0x69, transport + 2, i32::from(port.to_be())),
        ];
        let mut program = vec![copy(6, 1), load_word(7, 6, data), load_word(8, 6, end), copy(1, 7)];
        // Past the end of a packet that is too short: r1 > r8.
        program.extend([add(1, length.into()), insn(0x2d, 1, 8, over + 6, 0)]);
        for (number, (size, offset, value)) in ours.into_iter().enumerate() {
            program.extend([insn(size, 1, 7, offset, 0), unless(1, value, over + 4 - 2 * number as i16)]);
        }
        program.extend(body);
        program.extend([set(0, pass), EXIT]);
        let program = load(kind, 0, &program);
        Self { counts, program }
    }

    /// Pins the program, for `ip` and `tc` to attach.
    pub(crate) fn pin(&self, path: &Path) {
        let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the descriptor is open, the path ends in NUL and outlives the call.
        let ret = unsafe { libbpf_sys::bpf_obj_pin(self.program.as_raw_fd(), path.as_ptr()) };
        assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    }

    /// What packets have met so far, with how many there were.
    pub(crate) fn met(&self) -> Vec<(Met, u64)> {
        let number = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap());
        let count = |key: &Vec<u8>| self.counts.lookup(key, MapFlags::ANY).unwrap().map(|value| number(&value).into());
        let mut met: Vec<(Met, u64)> = self
            .counts
            .keys()
            .filter_map(|key| Some((Met { port: number(&key) as u16, cookie: number(&key) >> 16 != 0 }, count(&key)?)))
            .collect();
        met.sort_unstable();
        met
    }
}

/// From a socket in r0, or none, to what was met in r8.
fn found(tcp: bool, header: i16, transport: i16) -> Vec<Insn> {
    let mut found = vec![copy(9, 0)];
    if tcp {
        // 0 is what a valid ACK gives.
        found.extend([copy(1, 9), copy(2, 7), add(2, ETHERNET.into()), set(3, header.into()), copy(4, 7)]);
        found.extend([add(4, transport.into()), set(5, 20), call(BPF_FUNC_tcp_check_syncookie)]);
        found.extend([unless(0, 0, 1), set(8, 1 << 16)]);
    }
    // r8 |= the port
    found.extend([load_word(1, 9, SRC_PORT), insn(0x4f, 8, 1, 0, 0), copy(1, 9), call(BPF_FUNC_sk_release)]);
    let none = insn(0x15, 0, 0, found.len() as i16, 0);
    std::iter::once(none).chain(found).collect()
}

/// Counts what stands at [`KEY`].
fn count_key(counts: &MapHandle) -> Vec<Insn> {
    let mut count = map(1, counts).to_vec();
    count.extend([copy(2, 10), add(2, KEY.into()), call(BPF_FUNC_map_lookup_elem)]);
    let add_one = [set(1, 1), insn(0xdb, 0, 1, 0, 0)]; // *(u64 *)r0 += 1
    let mut insert = vec![insn(0x7a, 10, 0, ONE, 1)];
    insert.extend(map(1, counts));
    insert.extend([copy(2, 10), add(2, KEY.into()), copy(3, 10), add(3, ONE.into()), set(4, 0)]);
    insert.push(call(BPF_FUNC_map_update_elem));
    // Over the sum and the jump behind it, when the key is new.
    count.push(insn(0x15, 0, 0, add_one.len() as i16 + 1, 0));
    count.extend(add_one);
    count.push(insn(0x05, 0, 0, insert.len() as i16, 0));
    count.extend(insert);
    count
}
