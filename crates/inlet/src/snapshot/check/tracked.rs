//! Connection tracking, which sees the port of the socket, as it comes before the port is set: it takes such an answer for a
//! flow of its own.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

use inlet_core::{AddrRange, Answers, PortRange, Protocol, Rule, Service, ServiceId, Verdict};

use super::{Checkup, Finding, Severity, Subject};
use crate::error::quoted;

/// The flows that are tracked, of the thread's namespace. Not all kernels have it.
const FLOWS: &str = "/proc/thread-self/net/nf_conntrack";

/// Sockets of a service that are bound to another port than they are asked at.
struct Pair<'a> {
    id: ServiceId,
    service: &'a Service,
    asked: PortRange,
    own: u16,
    /// Whether a flow of it is tracked; `None` when that cannot be seen.
    is_seen: Option<bool>,
}

/// A flow over UDP as it is tracked.
struct Flow {
    from: SocketAddr,
    to: SocketAddr,
    is_replied: bool,
}

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) {
    let count = subject.location.netns().run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"));
    let count = count.ok().and_then(std::result::Result::ok).and_then(|text| text.trim().parse::<u64>().ok());
    if count.is_none_or(|count| count == 0) {
        return;
    }
    let mut pairs = pairs(subject);
    if !pairs.is_empty() {
        look(subject, &mut pairs);
    }
    found.findings.extend(pairs.iter().map(finding));
}

fn finding(pair: &Pair<'_>) -> Finding {
    let Pair { service, asked, own, .. } = pair;
    let lines = untracked(*asked, *own);
    let accept = format!(
        "what is not tracked is not established: a chain that accepts established flows only needs `udp dport {asked} accept` for input, `udp sport {own} accept` for output"
    );
    let name = &service.name;
    match pair.is_seen {
        Some(false) => Finding {
            severity: Severity::Note,
            code: "udp-answers-tracked",
            what: format!(
                "connections are tracked here, and none of service {name}, whose answers get another port than {own}"
            ),
            why: format!("either the firewall leaves them out of it, or nobody asked lately; {accept}"),
            fix: format!("nothing where the firewall leaves them out; else: {lines}"),
        },
        _ => Finding {
            severity: Severity::Warning,
            code: "udp-answers-tracked",
            what: format!("connections are tracked here, and answers of service {name} get another port than {own}"),
            why: format!(
                "connection tracking takes such an answer for a flow of its own: requests stay unreplied, and a rule for established flows drops the answer; {accept}; flows of before stay tracked for half a minute"
            ),
            fix: lines,
        },
    }
}

fn pairs<'a>(subject: &Subject<'a>) -> Vec<Pair<'a>> {
    let services = subject.ruleset.services();
    let mut pairs = Vec::new();
    for (id, asked) in subject.ruleset.udp_services() {
        let Some(service) = services.get(id).filter(|it| it.answers != Some(Answers::Bound)) else { continue };
        let own = own_ports(subject, service, asked);
        pairs.extend(own.into_iter().map(|own| Pair { id, service, asked, own, is_seen: None }));
    }
    pairs
}

/// The ports that sockets of a service are bound to, other than those of a rule.
fn own_ports(subject: &Subject<'_>, service: &Service, ports: PortRange) -> Vec<u16> {
    let states = subject.receivers.states(service);
    let udp = states.iter().filter(|it| it.local.is_some_and(|local| local.protocol() == Protocol::Udp));
    let bound = udp.filter_map(|socket| socket.bound()).map(|bound| bound.port());
    let mut own: Vec<u16> = bound.filter(|port| ports.width() > 1 || !ports.contains(*port)).collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// Looks for a flow of each among all that are tracked. What cannot be looked at stays unknown.
fn look(subject: &Subject<'_>, pairs: &mut [Pair<'_>]) {
    let opened = subject.location.netns().run(|| std::fs::File::open(FLOWS));
    let Ok(Ok(flows)) = opened else { return };
    let (locals, mut seen) = (subject.model.locals().0, vec![false; pairs.len()]);
    for line in BufReader::new(flows).lines() {
        let Ok(line) = line else { return };
        let Some(flow) = Flow::read(&line) else { continue };
        for (pair, seen) in pairs.iter().zip(&mut seen) {
            *seen = *seen || is_of(subject, &locals, pair, &flow);
        }
    }
    pairs.iter_mut().zip(seen).for_each(|(pair, seen)| pair.is_seen = Some(seen));
}

/// Whether a flow is a question that saw no answer, or an answer by itself.
fn is_of(subject: &Subject<'_>, locals: &[AddrRange], pair: &Pair<'_>, flow: &Flow) -> bool {
    let is_local = |addr: IpAddr| locals.iter().any(|range| range.contains(addr));
    let ruled = |addr: IpAddr| {
        let leads = |rule: Rule| rule.verdict == Verdict::Service(pair.id) && rule.matching.local.contains(addr);
        subject.ruleset.rules_for(Protocol::Udp, pair.asked).any(leads)
    };
    // What clients of this host ask is tracked on its way out, and firewalls let it pass.
    let asks = !flow.is_replied
        && pair.asked.contains(flow.to.port())
        && flow.to.port() != pair.own
        && !is_local(flow.from.ip());
    asks && ruled(flow.to.ip()) || flow.from.port() == pair.own && ruled(flow.from.ip())
}

impl Flow {
    /// `ipv4 2 udp 17 29 src=198.18.0.2 dst=203.0.113.6 sport=40725 dport=55 [UNREPLIED] src=203.0.113.6 ...`
    fn read(line: &str) -> Option<Self> {
        let words = || line.split_whitespace();
        let value = |name: &str| words().find_map(|word| word.strip_prefix(name));
        if words().nth(2) != Some("udp") {
            return None;
        }
        let [from, to] = [("src=", "sport="), ("dst=", "dport=")]
            .map(|(addr, port)| Some(SocketAddr::new(value(addr)?.parse().ok()?, value(port)?.parse().ok()?)));
        Some(Self { from: from?, to: to?, is_replied: !words().any(|word| word == "[UNREPLIED]") })
    }
}

/// The lines that leave these packets out of connection tracking.
fn untracked(ports: PortRange, own: u16) -> String {
    let table = "nft add table inet untracked; nft 'add chain inet untracked in { type filter hook prerouting priority raw; }'; nft 'add chain inet untracked out { type filter hook output priority raw; }'";
    let (asked, own) = (format!("udp dport {ports} notrack"), format!("udp sport {own} notrack"));
    format!(
        "{table}; nft add rule inet untracked in {}; nft add rule inet untracked out {}",
        quoted(&asked),
        quoted(&own)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read() {
        let text = "ipv4     2 udp      17 29 src=198.18.0.2 dst=203.0.113.6 sport=40725 dport=55 [UNREPLIED] src=203.0.113.6 dst=198.18.0.2 sport=55 dport=40725 mark=0 zone=0 use=2";
        let flow = Flow::read(text).unwrap();
        let told = (flow.from.to_string(), flow.to.to_string(), flow.is_replied);
        assert_eq!(told, ("198.18.0.2:40725".to_owned(), "203.0.113.6:55".to_owned(), false));
        assert!(Flow::read(&text.replace("[UNREPLIED] ", "")).unwrap().is_replied);
        assert!(Flow::read(&text.replace("udp      17", "icmp     1")).is_none() && Flow::read("").is_none());
    }
}
