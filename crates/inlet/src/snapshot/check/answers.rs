//! Answers over UDP: whether they leave from where they were asked, and whether what is between lets them through.

use inlet_core::{Answers, PortRange, Service};

use super::{Checkup, Severity, Subject};
use crate::error::quoted;
use crate::snapshot::AnswersState;

pub(super) fn check(subject: &Subject<'_>, state: Option<&AnswersState>, found: &mut Checkup) {
    match state {
        None | Some(AnswersState::Bound) => {}
        Some(AnswersState::Unable) => unable(found),
        Some(AnswersState::Asked { uncovered, counters, .. }) => {
            if !uncovered.is_empty() {
                not_covered(uncovered, counters.uncovered, found);
            }
            tracked(subject, found);
        }
    }
}

/// The host could not do it when the ruleset came into force.
fn unable(found: &mut Checkup) {
    found.add(
        Severity::Warning,
        "udp-answers-unable",
        "answers over UDP leave from where sockets are bound: this host cannot send them from where they were asked"
            .to_owned(),
        "clients drop an answer from elsewhere than they asked",
        "see what is missing with: inlet service set SERVICE --answers asked",
    );
}

/// Interfaces that came since the last commit, while nobody watched.
fn not_covered(names: &[String], answers: u64, found: &mut Checkup) {
    found.add(
        Severity::Warning,
        "udp-answers-uncovered",
        format!("answers over UDP leave from the port of their socket through {}", names.join(", ")),
        &format!(
            "these interfaces came later, and clients drop an answer from a port that they did not ask: {answers} such answers so far"
        ),
        "inlet watch",
    );
}

/// Connection tracking sees the port of the socket, as it comes before the port is set.
fn tracked(subject: &Subject<'_>, found: &mut Checkup) {
    let count = subject.location.netns().run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"));
    let count = count.ok().and_then(std::result::Result::ok).and_then(|text| text.trim().parse::<u64>().ok());
    if count.is_none_or(|count| count == 0) {
        return;
    }
    for (id, ports) in subject.ruleset.udp_services() {
        let Some(service) = subject.ruleset.services().get(id).filter(|it| it.answers != Some(Answers::Bound)) else {
            continue;
        };
        for own in own_ports(subject, service, ports) {
            found.add(
                Severity::Warning,
                "udp-answers-tracked",
                format!("connections are tracked here, and answers of service {} get another port than {own}", service.name),
                "connection tracking takes such an answer for a flow of its own: requests stay unreplied, and a rule for established flows drops the answer",
                untracked(ports, own),
            );
        }
    }
}

/// The ports that sockets of a service are bound to, other than those of a rule.
fn own_ports(subject: &Subject<'_>, service: &Service, ports: PortRange) -> Vec<u16> {
    let states = subject.receivers.states(service);
    let udp = states.iter().filter(|it| it.local.is_some_and(|local| local.protocol() == inlet_core::Protocol::Udp));
    let bound = udp.filter_map(|socket| socket.own_port.or(socket.local.map(|local| local.addr().port())));
    let mut own: Vec<u16> = bound.filter(|port| ports.width() > 1 || !ports.contains(*port)).collect();
    own.sort_unstable();
    own.dedup();
    own
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
