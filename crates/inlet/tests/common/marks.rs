//! Marks: whether the kernel hands them over, a client whose packets the host marks, and packets that were never sent.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use inlet::rules::{Packet, Protocol};
use inlet_testkit::{End, Namespace, Netns, PATIENCE, World, kernel_at_least, veth};
use libbpf_rs::query::{LinkInfo, LinkInfoIter, LinkTypeInfo, ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};
use libbpf_rs::{MapCore, MapFlags, MapHandle, ProgramType};

use super::here;

/// Whether programs run in netfilter here.
pub(crate) fn has_marks() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| ProgramType::Netfilter.is_supported().unwrap())
}

/// Whether rules may have marks here. On an older kernel a test of its own sees to it that they are refused.
#[must_use]
pub(crate) fn require_marks() -> bool {
    assert!(has_marks() || !kernel_at_least(6, 4), "no BPF programs in netfilter, though kernels have them since 6.4");
    has_marks()
}

/// What a service is reached at.
pub(crate) const LOCALS: [&str; 2] = ["192.0.2.0/24", "2001:db8:a::/64"];

/// The host's and the client's addresses on their network. All of the client's are local there.
const HOST: [&str; 2] = ["10.9.0.1/16", "fd09::1/64"];
const CLIENT: [&str; 2] = ["10.9.0.2/16", "fd09::2/64"];

/// A client in a namespace of its own, on the other end of `v1`.
pub(crate) fn client(world: &World) -> Namespace {
    let client = Netns::unentered().unwrap();
    let end = |namespace, name, addresses| End { namespace, name, addresses };
    veth(end(world, "v1", &HOST), end(&client, "v0", &CLIENT)).unwrap();
    for (local, via, own) in [(LOCALS[0], "10.9.0.1", "10.9.1.0/24"), (LOCALS[1], "fd09::1", "fd09:1::/64")] {
        world.local(local).unwrap();
        client.ip(&["route", "add", local, "via", via]).unwrap();
        client.local(own).unwrap();
    }
    world.ip(&["-6", "route", "add", "fd09:1::/64", "via", "fd09::2"]).unwrap();
    client
}

/// Takes commands of nftables into the namespace of this thread. They find control groups at the usual place.
pub(crate) fn nft(commands: &str) {
    let script =
        "grep -q ' /sys/fs/cgroup cgroup2 ' /proc/self/mounts || mount -t cgroup2 none /sys/fs/cgroup; exec nft -f -";
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{commands}", String::from_utf8_lossy(&output.stderr));
}

/// The source from which packets of the client have this mark, once [`by_source`] is in force.
pub(crate) fn source_of(v6: bool, number: usize) -> IpAddr {
    match v6 {
        false => [10, 9, 1, number as u8 + 1].into(),
        true => [0xfd09, 1, 0, 0, 0, 0, 0, number as u16 + 1].into(),
    }
}

/// Marks packets by their source, in the chain where packets come in.
pub(crate) fn by_source(marks: &[u32]) {
    let mut maps = [String::new(), String::new()];
    for (v6, map) in maps.iter_mut().enumerate() {
        for (number, mark) in marks.iter().enumerate() {
            write!(map, "{} : {mark:#x}, ", source_of(v6 == 1, number)).unwrap();
        }
    }
    nft(&format!(
        "table inet marks {{
            chain in {{ type filter hook prerouting priority mangle;
                meta mark set ip saddr map {{ {} }}
                meta mark set ip6 saddr map {{ {} }}
            }}
        }}",
        maps[0], maps[1]
    ));
}

/// Leaves the mark of a packet on every CPU, as the program in netfilter does for one that comes in. A packet whose
/// mark is unknown finds what is left of another one.
pub(crate) fn hand_over(slots: &MapHandle, packet: &Packet) {
    let words = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => [addr.octets().to_vec(), vec![0; 12]].concat(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let (v6, udp) = (u32::from(packet.local.is_ipv6()), u32::from(packet.protocol == Protocol::Udp));
    let port = packet.local.port() ^ u16::from(packet.mark.is_none());
    let ports = u32::from(port) | u32::from(packet.remote.port().to_be()) << 16;
    let numbers = [ports, 1 | udp << 1 | v6 << 2, packet.mark.unwrap_or(1)].map(u32::to_ne_bytes);
    let value = [words(packet.local.ip()), words(packet.remote.ip()), numbers.concat()].concat();
    let values = vec![value; libbpf_rs::num_possible_cpus().unwrap()];
    slots.update_percpu(&0_u32.to_ne_bytes(), &values, MapFlags::ANY).unwrap();
}

/// The map that marks go through, while rules have one.
pub(crate) fn slots(world: &World) -> Option<MapHandle> {
    let path = here(world).dir().join("marks/slots");
    path.exists().then(|| MapHandle::from_pinned_path(path).unwrap())
}

/// What the kernel has attached to netfilter for an instance, as it lists its links. The map that marks go through tells
/// the program of this instance from those of others.
#[derive(Default)]
pub(crate) struct Hooks {
    slots: Option<u32>,
}

impl Hooks {
    /// Waits until links for these families are attached, and no others: the kernel lists one for a moment after it was
    /// detached.
    pub(crate) fn become_those_of(&mut self, world: &World, families: &[i32]) {
        let until = Instant::now() + PATIENCE;
        while self.families(world) != families {
            assert!(Instant::now() < until, "{:?}, not {families:?}", self.families(world));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Remembers the map, to find what is left when its pin is gone.
    pub(crate) fn note(&mut self, world: &World) {
        let there = slots(world).map(|map| map.info().unwrap().info.id);
        self.slots = there.or(self.slots);
    }

    fn families(&mut self, world: &World) -> Vec<i32> {
        self.note(world);
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let programs = ProgInfoIter::with_query_opts(options);
        let uses = |program: &ProgramInfo| self.slots.is_some_and(|slots| program.map_ids.contains(&slots));
        let ours: Vec<u32> = programs.filter(uses).map(|program| program.id).collect();
        let family = |link: LinkInfo| match link.info {
            LinkTypeInfo::Netfilter(hook) if ours.contains(&link.prog_id) => {
                assert_eq!((hook.hooknum, hook.priority), (1, i32::MAX - 1));
                Some(hook.protocol_family as i32)
            }
            _ => None,
        };
        let mut families: Vec<i32> = LinkInfoIter::default().filter_map(family).collect();
        families.sort_unstable();
        families
    }
}

/// A target in the prefix of a family.
pub(crate) fn target(v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(if v6 { [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 9].into() } else { [192, 0, 2, 9].into() }, port)
}
