//! The sockets: those with properties that surprise.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use inlet_core::{Answers, Area, PortRange, Prefix, Protocol, Rule, Verdict, given};

use super::{Checkup, Finding, Severity, Subject, groups, shadowed};
use crate::error::{Error, Refusal, Result, quoted, words};
use crate::snapshot::listeners::{Listener, listeners};
use crate::socket::{SocketState, counts_nothing, pktinfo};

/// The ports of sockets that did not ask for one, when the kernel does not say.
const CLIENT_PORTS: (u16, u16) = (32768, 60999);

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    let all = listeners(subject.ruleset, subject.receivers, subject.passes_clients);
    shadowed::check(subject, &all, found)?;
    groups::check(subject, &all, found);
    mptcp(subject, &all, found);
    client_answers(subject, &all, found);
    answers(subject, found);
    fionread(subject, found);
    Ok(())
}

/// A socket in a sentence: its address, and who has it open.
pub(super) fn describe(socket: &SocketState) -> String {
    let local = socket.local.map_or_else(|| "a socket".to_owned(), |local| local.to_string());
    match socket.owners.first() {
        Some(owner) => format!("{local} of process {} ({})", owner.pid, owner.command),
        None => local,
    }
}

/// Listeners of Multipath TCP, which no service can have.
fn mptcp(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) {
    let cookies: HashSet<u64> =
        subject.receivers.sockets.receiving().iter().filter(|it| it.mptcp).map(|it| it.cookie).collect();
    let listeners: Vec<&Listener> = all.iter().filter(|it| cookies.contains(&it.socket.cookie)).collect();
    found.add_each(&listeners, |listener| Finding {
        severity: Severity::Note,
        code: "listener-mptcp",
        what: format!("{} listens with Multipath TCP", describe(&listener.socket)),
        why: "the kernel does not take such a socket into a service".to_owned(),
        fix: Refusal::Mptcp.remedy().unwrap_or_default().to_owned(),
    });
}

/// The ports of sockets that did not ask for one.
pub(super) fn client_ports(subject: &Subject<'_>) -> Option<PortRange> {
    let range = subject.location.netns().run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"));
    let numbers = range
        .ok()
        .and_then(std::result::Result::ok)
        .map(|text| text.split_whitespace().filter_map(|word| word.parse::<u16>().ok()).collect::<Vec<_>>());
    let (first, last) = match numbers.as_deref() {
        Some([first, last]) => (*first, *last),
        _ => CLIENT_PORTS,
    };
    PortRange::new(first.max(1), last).ok()
}

/// UDP rules that take the answers to client sockets, where this host cannot let them pass: an unconnected socket that asks
/// others waits at a port too.
fn client_answers(subject: &Subject<'_>, all: &[Listener], found: &mut Checkup) {
    if subject.passes_clients {
        return;
    }
    let Some(ports) = client_ports(subject) else { return };
    let takes = |rule: &Rule| {
        let inside = rule.matching.ports.first() <= ports.first() && rule.matching.ports.last() >= ports.last();
        inside && rule.verdict != Verdict::Pass && !rule.matching.local.is_multicast()
    };
    let rules: Vec<Rule> = subject.ruleset.rules_for(Protocol::Udp, ports).filter(takes).collect();
    let clients = all.iter().filter(|it| it.bound.protocol == Protocol::Udp && ports.contains(it.bound.addr.port()));
    let clients = clients.filter(|it| it.service.is_none()).count();
    found.add_each(&rules, |rule| {
        let passed = inlet_core::Match { ports, ..rule.matching };
        let is_passed = subject.ruleset.get(&passed) == Some(Verdict::Pass);
        Finding {
            severity: if is_passed || clients == 0 { Severity::Note } else { Severity::Warning },
            code: "udp-takes-answers",
            what: format!("rule `{}` covers the ports of client sockets ({ports})", subject.ruleset.named(rule)),
            why: format!(
                "it takes the answers to unconnected UDP sockets that ask from these addresses, such as a resolver's; there are {clients} now"
            ),
            fix: format!("inlet bind --pass {}", words(subject.ruleset, &passed)),
        }
    });
}

/// UDP servers whose answers leave from another address or port than was asked.
fn answers(subject: &Subject<'_>, found: &mut Checkup) {
    for (id, service) in subject.ruleset.services().iter() {
        let udp = |socket: &&SocketState| {
            socket.receiving && socket.local.is_some_and(|local| local.protocol() == Protocol::Udp)
        };
        let states = subject.receivers.states(service);
        let sockets: Vec<&SocketState> = states.iter().filter(udp).collect();
        let by_choice = service.answers == Some(Answers::Bound);
        if sockets.is_empty() || subject.as_asked && !by_choice {
            continue;
        }
        let as_asked = format!("inlet service set {} --answers asked", quoted(service.name.as_str()));
        let fix = |other: &str| if by_choice { as_asked.clone() } else { other.to_owned() };
        let claims = given(subject.ruleset, id);
        let areas: Vec<Area> =
            claims.iter().map(|claim| claim.area).filter(|it| it.protocol == Protocol::Udp).collect();
        let says = match told_address(&sockets) {
            Ok(says) => says,
            Err(error) => {
                found.unchecked.push(format!(
                    "whether UDP sockets of service {} answer from the address asked: {error}",
                    service.name
                ));
                HashMap::new()
            }
        };
        for socket in sockets {
            let Some(local) = socket.bound() else { continue };
            let who = format!("{} of service {}", describe(socket), service.name);
            if areas.iter().any(|area| area.ports.width() > 1 || !area.ports.contains(local.port())) {
                let what = match socket.own_port {
                    Some(own) => format!("{who} is in truth bound to port {own}, as its service has own binds"),
                    None => format!("{who} also receives at other ports than {}", local.port()),
                };
                let why =
                    "its answers leave from its own port, and clients drop an answer from a port that they did not ask";
                found.add(
                    Severity::Warning,
                    "udp-answers-from-other-port",
                    what,
                    why,
                    fix("give the service rules for that port only, or use TCP"),
                );
            }
            let elsewhere =
                |area: &Area| local.ip().is_unspecified() || area.local != Prefix::from(canonical(local.ip()));
            if areas.iter().any(elsewhere) {
                match says.get(&socket.cookie) {
                    Some(false) => answers_elsewhere(&who, &fix, found),
                    Some(true) => answers_unknown(&who, found),
                    None => {}
                }
            }
        }
    }
}

fn answers_elsewhere(who: &str, fix: &dyn Fn(&str) -> String, found: &mut Checkup) {
    found.add(
        Severity::Warning,
        "udp-answers-from-other-address",
        format!("{who} does not ask which address a datagram was for (IP_PKTINFO)"),
        "its answers leave from an address of the kernel's choice, and clients drop an answer from elsewhere than they asked",
        fix("switch it on in the server (unbound: interface-automatic: yes), or bind a socket to each address"),
    );
}

/// That a program is told the address is not that it answers from there.
fn answers_unknown(who: &str, found: &mut Checkup) {
    found.add(
        Severity::Note,
        "udp-answers-unproven",
        format!("{who} asks which address a datagram was for (IP_PKTINFO)"),
        "so it can answer from that address; whether it does is not known here",
        "ask it from another host at an address of its rules, such as: dig @ADDRESS",
    );
}

fn canonical(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}

/// Whether sockets ask for the address that a datagram was for, as far as their processes can be looked into.
fn told_address(sockets: &[&SocketState]) -> std::result::Result<HashMap<u64, bool>, Error> {
    let cookies: HashSet<u64> = sockets.iter().map(|socket| socket.cookie).collect();
    let pids: HashSet<u32> = sockets.iter().flat_map(|socket| &socket.owners).map(|owner| owner.pid).collect();
    let mut says = HashMap::new();
    for pid in pids {
        says.extend(pktinfo(pid, &cookies)?);
    }
    Ok(says)
}

/// Some kernels tell a program nothing of what waits in a UDP socket that a service has.
fn fionread(subject: &Subject<'_>, found: &mut Checkup) {
    let is_udp = |socket: &SocketState| socket.local.is_some_and(|local| local.protocol() == Protocol::Udp);
    let services = subject.ruleset.services().iter();
    let with_udp: Vec<String> = services
        .filter(|(_, service)| subject.receivers.states(service).iter().any(is_udp))
        .map(|(_, service)| service.name.to_string())
        .collect();
    if with_udp.is_empty() {
        return;
    }
    let why = match counts_nothing(subject.location.netns()) {
        Some(false) => return,
        Some(true) => "FIONREAD tells their programs 0 bytes whatever is waiting; receiving is not affected",
        None => "on some kernels FIONREAD tells their programs 0 bytes whatever is waiting; receiving is not affected",
    };
    found.add(
        Severity::Note,
        "udp-fionread",
        format!("UDP sockets are in services: {}", with_udp.join(", ")),
        why,
        "nothing, unless a program uses FIONREAD to learn the size of a datagram: let it use MSG_PEEK with MSG_TRUNC",
    );
}
