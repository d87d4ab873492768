//! Not locking oneself out: a change must not take packets from the listener that whoever makes it came in by, nor from
//! that of SSH.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use inlet_core::{Moved, Packet, Plan, PortRange, Prefix, Protocol, Rule, Ruleset, lookup, traffic_at, traffic_to};
use rustix::net::{getpeername, getsockname};

use super::losses::Lost;
use super::{Losses, Receivers, ssh};
use crate::error::{CommitError, Error, Result};
use crate::kernel::{Netns, raw};
use crate::socket::{Listed, each_socket};
use crate::state::Maps;

/// The command of the SSH server, as /proc/PID/comm has it.
const SSH_SERVER: &str = "sshd";
/// What the SSH server tells its sessions: addresses and ports of client and server.
const SSH_CONNECTION: &str = "SSH_CONNECTION";
/// From how many changed rules on it takes longer to see what all listeners lose than which of them matter.
const FEW: usize = 64;
/// How many parents are looked at.
const DEPTH: usize = 64;

/// A listener that must keep its packets, and why.
pub(super) struct Guarded {
    pub(super) listed: Listed,
    pub(super) why: &'static str,
}

/// Packets of which a listener loses one.
struct Loss {
    listed: Listed,
    why: &'static str,
    packet: Packet,
    moved: Moved,
}

/// Fails when the change takes packets from SSH, or from what serves the session of this process.
pub(crate) fn check(netns: &Netns, maps: &Maps, old: &Ruleset, new: &Ruleset, plan: &Plan) -> Result<()> {
    if !concerns_tcp(plan) {
        return Ok(());
    }
    let now = Receivers::of(netns, Some((maps, old)))?;
    let then = now.after(old, new);
    let step = Losses::between(netns, [&now, &then], [old, new])?;
    match refusal(netns, &step, plan) {
        Some(refusal) => Err(Error::Commit(refusal)),
        None => Ok(()),
    }
}

fn concerns_tcp(plan: &Plan) -> bool {
    plan.rules.iter().any(|change| change.matching().protocol == Protocol::Tcp)
}

/// Why such a change is refused, if it is.
pub(super) fn refusal(netns: &Netns, step: &Losses<'_>, plan: &Plan) -> Option<CommitError> {
    if !concerns_tcp(plan) {
        return None;
    }
    let sockets = &step.now.sockets;
    // To find out whose a listener is takes a look at every process, and few changes take packets from any.
    if plan.rules.len() <= FEW {
        let any = sockets.at(Protocol::Tcp, 1, u16::MAX).map(|listed| Guarded { listed: *listed, why: "listens" });
        loss_anywhere(&any.collect::<Vec<_>>(), step, plan)?;
    }
    let Loss { listed, why, packet, moved } = loss(&guarded(netns, step.old, step.now), step, plan)?;
    let socket = sockets.describe_listed(&listed);
    let owner = socket.owners.first().map_or_else(String::new, |it| format!(" (pid {}, {})", it.pid, it.command));
    let local = socket.local.map_or_else(|| "a listener".to_owned(), |local| local.to_string());
    let (rule, fix) = told(&moved, &packet, step.old, step.new);
    Some(CommitError::LockOut { listener: format!("{local}{owner}"), why, packet: packet.local.to_string(), rule, fix })
}

/// What SSH would lose of packets to addresses that are not local, as soon as they are, with what keeps it. Nobody is
/// locked out by that now, so it is no reason to refuse anything.
pub(super) fn once_local(netns: &Netns, step: &Losses<'_>, plan: &Plan) -> Option<(Guarded, Lost, String)> {
    if !concerns_tcp(plan) {
        return None;
    }
    let ports: BTreeSet<u16> =
        step.now.sockets.at(Protocol::Tcp, 1, u16::MAX).map(|listed| listed.bound.addr.port()).collect();
    let concerns = |port: &u16| plan.rules.iter().any(|change| change.matching().ports.contains(*port));
    if !ports.iter().any(concerns) || !step.leads_elsewhere(plan) {
        return None;
    }
    let mut found = None;
    for it in guarded(netns, step.old, step.now).into_iter().filter(|it| concerns(&it.listed.bound.addr.port())) {
        let _ = traffic_at(step.old, step.new, Protocol::Tcp, it.listed.bound.addr.port(), &mut |moved| {
            found = step.once_local(&it.listed, &moved);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Some(lost) = found {
            let fix = told(&lost.moved, &lost.packet, step.old, step.new).1;
            return Some((it, lost, fix));
        }
    }
    None
}

/// The first loss that is found.
fn loss(guarded: &[Guarded], step: &Losses<'_>, plan: &Plan) -> Option<Loss> {
    let (old, new) = (step.old, step.new);
    // By rules a listener receives on any port, else on its own alone, about which most rules are not.
    if guarded.iter().any(|it| step.now.owner(old, it.listed.cookie).is_some()) {
        return loss_anywhere(guarded, step, plan);
    }
    // Rules that name an interface match other packets once it has another index.
    let renumbered = old.interfaces() != new.interfaces();
    let changes = |port: u16| renumbered || plan.rules.iter().any(|it| it.matching().ports.contains(port));
    let ports: BTreeSet<u16> = guarded.iter().map(|it| it.listed.bound.addr.port()).collect();
    let mut found = None;
    let _ = ports.into_iter().filter(|port| changes(*port)).try_for_each(|port| {
        traffic_at(old, new, Protocol::Tcp, port, &mut |moved| {
            found = loss_by(guarded, step, moved);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    found
}

/// The first loss of packets to any local address, which are all that a listener can lose.
fn loss_anywhere(guarded: &[Guarded], step: &Losses<'_>, plan: &Plan) -> Option<Loss> {
    let mut found = None;
    traffic_to(step.old, step.new, plan, step.local_prefixes(), &mut |moved| {
        if moved.protocol == Protocol::Tcp {
            found = loss_by(guarded, step, moved);
        }
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

/// The listener that loses one of these packets.
fn loss_by(guarded: &[Guarded], step: &Losses<'_>, moved: Moved) -> Option<Loss> {
    let lost = |it: &Guarded| Some((it.listed, it.why, step.lost(&it.listed, &moved)?));
    let (listed, why, packet) = guarded.iter().find_map(lost)?;
    Some(Loss { listed, why, packet, moved })
}

/// What takes the packets, and what keeps them.
fn told(moved: &Moved, packet: &Packet, old: &Ruleset, new: &Ruleset) -> (String, String) {
    let quoted = |ruleset: &Ruleset, rule: &Rule| format!("`{}`", ruleset.named(rule));
    let port = packet.local.port();
    match (&moved.new, &moved.previous) {
        (Some(rule), _) => (format!("rule {}", quoted(new, rule)), pass(rule, packet, port)),
        (None, Some(rule)) => (format!("removing {}", quoted(old, rule)), format!("keep rule {}", quoted(old, rule))),
        (None, None) => ("no rule".to_owned(), "look at what changes with: inlet plan".to_owned()),
    }
}

/// The exception that a rule needs. It wins by the narrower port, or else by the longer prefix.
fn pass(rule: &Rule, packet: &Packet, port: u16) -> String {
    let matching = &rule.matching;
    let host = Prefix::from(packet.local.ip());
    let local = match (matching.ports.width(), matching.local == host) {
        (2.., _) => matching.local,
        (_, false) => host,
        (_, true) => return "leave that rule out".to_owned(),
    };
    let except = match matching.ports == PortRange::ANY {
        true => format!(" (in a file: except = [{port}])"),
        false => format!(" (in a file: verdict = \"pass\", protocol = \"tcp\", local = \"{local}\", ports = {port})"),
    };
    format!("inlet bind --pass tcp {local} {port}{except}")
}

/// The listeners to keep, each once.
fn guarded(netns: &Netns, old: &Ruleset, receivers: &Receivers) -> Vec<Guarded> {
    let mut all: Vec<Guarded> = Vec::new();
    let mut add = |listed: Listed, why| {
        if all.iter().all(|known| known.listed.cookie != listed.cookie) {
            all.push(Guarded { listed, why });
        }
    };
    for packet in session(netns.cookie()) {
        let rule = lookup(old, &packet);
        receivers.of_packet(old, rule, &packet).into_iter().for_each(|it| add(it, "serves this session"));
    }
    let (ssh_port, ssh_sockets, of_init) = (ssh_port(), ssh::sockets_of(SSH_SERVER), ssh::Activation::look());
    for listed in receivers.sockets.at(Protocol::Tcp, 1, u16::MAX) {
        let (port, inode) = (listed.bound.addr.port(), listed.inode());
        if Some(port) == ssh_port || ssh_sockets.contains(&inode) || of_init.holds(port, inode) {
            add(*listed, "serves SSH");
        }
    }
    all
}

/// The port by which this session came, when SSH says so.
fn ssh_port() -> Option<u16> {
    std::env::var(SSH_CONNECTION).ok()?.split_whitespace().nth(3)?.parse().ok()
}

/// The connections that the parents of this process have open in the namespace, as the first packet of each was.
fn session(netns: u64) -> Vec<Packet> {
    let mut connections = Vec::new();
    let parents = std::iter::successors(parent("self"), |pid| parent(&pid.to_string()));
    for pid in parents.take_while(|pid| *pid > 1).take(DEPTH) {
        // Whoever may not look into a parent has to do with what SSH says.
        let _ = each_socket(pid, |_, fd| connections.extend(connection(&fd, netns)));
    }
    connections
}

fn connection(fd: &OwnedFd, netns: u64) -> Option<Packet> {
    let is_tcp = rustix::net::sockopt::socket_protocol(fd).ok()? == Some(rustix::net::ipproto::TCP);
    if !is_tcp || raw::netns_cookie(std::os::fd::AsFd::as_fd(fd)).ok()? != netns {
        return None;
    }
    let canonical = |addr: std::net::SocketAddr| std::net::SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let local = canonical(getsockname(fd).ok()?.try_into().ok()?);
    let remote = canonical(getpeername(fd).ok()??.try_into().ok()?);
    Some(Packet::new(Protocol::Tcp, local, remote))
}

/// The parent of a process.
fn parent(pid: &str) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
