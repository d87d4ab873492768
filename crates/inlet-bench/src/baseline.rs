//! The programs that Inlet is compared with, loaded, and the trie filled with what it can say of a ruleset.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use inlet::rules::Protocol;
use libbpf_rs::{Link, MapCore, MapFlags, Object, ObjectBuilder};

use crate::Result;
use crate::receivers::{Receivers, destination};
use crate::rules::Steer;

/// Aligned, as libbpf reads it in place.
#[repr(align(16))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/baseline.bpf.o")));

/// The loaded programs.
#[derive(Debug)]
pub(crate) struct Baseline {
    object: Object,
    /// The program that does nothing.
    pub(crate) empty: OwnedFd,
    /// The program with the trie.
    pub(crate) lpm: OwnedFd,
    /// The program that only gives: every packet to the first socket of its protocol.
    pub(crate) give: OwnedFd,
}

impl Baseline {
    /// Loads the programs, the trie filled with these rules and the map of sockets with these receivers.
    pub(crate) fn load(rules: &[Steer], receivers: &Receivers) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
        for mut map in open.maps_mut().filter(|map| map.name() == "bench_trie") {
            map.set_max_entries(rules.len().max(1) as u32)?;
        }
        let object = open.load()?;
        let [empty, lpm, give] = ["bench_empty", "bench_lpm", "bench_give"].map(|name| program(&object, name));
        let baseline = Self { empty: empty?, lpm: lpm?, give: give?, object };
        baseline.fill(rules, receivers)?;
        Ok(baseline)
    }

    fn fill(&self, rules: &[Steer], receivers: &Receivers) -> Result<()> {
        let sockets = self.map("bench_sockets")?;
        for (at, socket) in (0_u32..).zip(receivers.iter()) {
            let value = u64::from(socket.as_raw_fd() as u32).to_ne_bytes();
            sockets.update(&at.to_ne_bytes(), &value, MapFlags::ANY)?;
        }
        let trie = self.map("bench_trie")?;
        rules.iter().try_for_each(|rule| trie.update(&key(rule), &binding(rule), MapFlags::ANY))?;
        Ok(())
    }

    fn map(&self, name: &str) -> Result<impl MapCore + '_> {
        let found = self.object.maps().find(|map| map.name() == name);
        Ok(found.ok_or_else(|| format!("no map {name}"))?)
    }

    /// What the kernel says the trie takes.
    pub(crate) fn trie_bytes(&self) -> Result<u64> {
        Ok(map_memory(self.map("bench_trie")?.as_fd())?)
    }
}

/// Attaches the program that does nothing to a network namespace: what the hook itself costs packets.
pub(crate) fn attach_empty(netns: BorrowedFd<'_>) -> Result<Link> {
    let object = ObjectBuilder::default().open_memory(&OBJECT.0)?.load()?;
    let empty = object.progs_mut().find(|program| program.name() == "bench_empty").ok_or("no program bench_empty")?;
    Ok(empty.attach_netns(netns.as_raw_fd())?)
}

/// The program that does nothing at the events of connections.
pub(crate) fn no_event() -> Result<OwnedFd> {
    program(&ObjectBuilder::default().open_memory(&OBJECT.0)?.load()?, "bench_no_event")
}

/// The programs that do nothing at sends and at packets that leave.
pub(crate) fn no_sends() -> Result<[OwnedFd; 2]> {
    let object = ObjectBuilder::default().open_memory(&OBJECT.0)?.load()?;
    Ok([program(&object, "bench_no_send")?, program(&object, "bench_no_packet")?])
}

fn program(object: &Object, name: &str) -> Result<OwnedFd> {
    let found = object.progs().find(|program| program.name() == name);
    Ok(found.ok_or_else(|| format!("no program {name}"))?.as_fd().try_clone_to_owned()?)
}

/// The memory of a map, from what the kernel says of a descriptor.
pub(crate) fn map_memory(map: BorrowedFd<'_>) -> io::Result<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::other("the kernel does not say how much memory a map takes"))
}

fn key(rule: &Steer) -> [u8; 24] {
    let mut key = [0; 24];
    // The trie knows one port or any.
    let port = if rule.ports.first() == rule.ports.last() { rule.ports.first() } else { 0 };
    key[..4].copy_from_slice(&(32 + bits(rule)).to_ne_bytes());
    key[4] = if rule.protocol == Protocol::Tcp { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP } as u8;
    key[6..8].copy_from_slice(&port.to_be_bytes());
    let address = match rule.local.addr() {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    };
    key[8..].copy_from_slice(&address.octets());
    key
}

fn bits(rule: &Steer) -> u32 {
    u32::from(rule.local.len()) + if rule.local.is_v6() { 0 } else { 96 }
}

fn binding(rule: &Steer) -> [u8; 8] {
    let words = [bits(rule), destination(rule.service, rule.protocol)];
    let mut binding = [0; 8];
    binding[..4].copy_from_slice(&words[0].to_ne_bytes());
    binding[4..].copy_from_slice(&words[1].to_ne_bytes());
    binding
}
