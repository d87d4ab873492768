//! The decision about a packet.

use inlet::core::config::rule_json;
use inlet::core::{InterfaceName, OnMissing, Packet, Rule, Ruleset, Verdict};
use inlet::{Explanation, Live, SocketState};
use serde::Serialize;

use super::socket::{self, Socket};
use super::table::Table;
use super::{Screen, counted};
use crate::failure::Failure;

/// What of the packet was given and what was filled in.
pub(crate) struct Question<'a> {
    /// Whether the source was given.
    pub(crate) from: bool,
    /// The interface, when one was given.
    pub(crate) iface: Option<&'a InterfaceName>,
}

/// What happens to the packet in the end.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// A socket of the service receives it.
    Socket,
    /// The kernel's ordinary lookup decides.
    Pass,
    /// TCP reset, ICMP port unreachable.
    Refuse,
}

#[derive(Serialize)]
struct Report<'a, R> {
    packet: Asked<'a>,
    rule: Option<R>,
    verdict: Option<&'static str>,
    service: Option<&'a str>,
    outcome: Outcome,
    socket: Option<Socket>,
    candidates: Vec<Socket>,
    program: Program,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Asked<'a> {
    protocol: &'static str,
    local: String,
    from: String,
    iface: Option<&'a str>,
}

#[derive(Serialize)]
struct Program {
    asked: bool,
    reason: Option<String>,
}

pub(crate) fn explanation(
    screen: &mut Screen<'_>,
    question: &Question<'_>,
    ruleset: &Ruleset,
    explanation: &Explanation,
) -> Result<(), Failure> {
    match screen.json {
        true => screen.document(&report(question, ruleset, explanation)),
        false => text(screen, question, ruleset, explanation),
    }
}

fn report<'a>(question: &Question<'a>, ruleset: &'a Ruleset, explanation: &'a Explanation) -> impl Serialize {
    let Explanation { packet, rule, live, .. } = explanation;
    Report {
        packet: Asked {
            protocol: packet.protocol.as_str(),
            local: packet.local.to_string(),
            from: packet.remote.to_string(),
            iface: question.iface.map(InterfaceName::as_str),
        },
        rule: rule.as_ref().map(|rule| rule_json(ruleset, rule)),
        verdict: rule.map(|rule| rule.verdict.as_str()),
        service: rule.and_then(|rule| ruleset.service_name(rule.verdict)),
        outcome: outcome(ruleset, explanation),
        socket: receiver(question, explanation).map(Socket::from),
        candidates: candidates(explanation).map(Socket::from).collect(),
        program: match live {
            Live::Agrees => Program { asked: true, reason: None },
            Live::NotAsked(reason) => Program { asked: false, reason: Some(reason.to_string()) },
        },
        notes: notes(question, ruleset, explanation),
    }
}

fn text(
    screen: &mut Screen<'_>,
    question: &Question<'_>,
    ruleset: &Ruleset,
    explanation: &Explanation,
) -> Result<(), Failure> {
    let Explanation { packet, rule, live, .. } = explanation;
    let mut table = Table::default();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let mut asked = format!("{} {} from {}", packet.protocol, packet.local, packet.remote);
    if let Some(iface) = question.iface {
        asked.push_str(&format!(" on {iface}"));
    }
    row("packet", asked);
    row("rule", rule.as_ref().map_or_else(|| "none matches".to_owned(), |rule| ruleset.named(rule).to_string()));
    row("verdict", decision(ruleset, *rule, outcome(ruleset, explanation)));
    for line in receivers(question, explanation) {
        row("socket", line);
    }
    row(
        "program",
        match live {
            Live::Agrees => "the live program agrees".to_owned(),
            Live::NotAsked(reason) => format!("the live program was not asked: {reason}"),
        },
    );
    for note in notes(question, ruleset, explanation) {
        row("note", note);
    }
    Ok(table.write(screen.out, 0, screen.palette.heading)?)
}

/// The decision in words.
fn decision(ruleset: &Ruleset, rule: Option<Rule>, outcome: Outcome) -> String {
    let service = rule.and_then(|rule| ruleset.service_name(rule.verdict));
    let end = match outcome {
        Outcome::Socket => "a socket of it receives the packet",
        Outcome::Pass => "the kernel's ordinary lookup decides",
        Outcome::Refuse => "the packet is refused (TCP reset, ICMP port unreachable)",
    };
    match (service, outcome) {
        (Some(name), Outcome::Socket) => format!("service {name}: {end}"),
        (Some(name), _) => format!("service {name} has no live socket for it: {end}"),
        (None, _) => format!("{}: {end}", rule.map_or("none", |rule| rule.verdict.as_str())),
    }
}

fn receivers(question: &Question<'_>, explanation: &Explanation) -> Vec<String> {
    let one = |socket: &SocketState| socket::words(socket).join("  ");
    let count = candidates(explanation).count();
    match receiver(question, explanation) {
        Some(socket) => vec![one(socket)],
        None => candidates(explanation).map(|socket| format!("one of {count} sockets: {}", one(socket))).collect(),
    }
}

fn candidates(explanation: &Explanation) -> impl Iterator<Item = &SocketState> {
    explanation.sockets.iter().filter(|socket| socket.receiving)
}

/// The socket that receives the packet, when it is known.
fn receiver<'a>(question: &Question<'_>, explanation: &'a Explanation) -> Option<&'a SocketState> {
    chosen(explanation).filter(|_| !depends_on_source(question, explanation))
}

/// The socket chosen for the packet with the source that it was asked with, given or filled in.
fn chosen(explanation: &Explanation) -> Option<&SocketState> {
    explanation.socket.as_ref().filter(|socket| socket.receiving)
}

/// Whether another source may have another socket: among several a hash of it chooses.
fn depends_on_source(question: &Question<'_>, explanation: &Explanation) -> bool {
    !question.from && candidates(explanation).nth(1).is_some()
}

fn outcome(ruleset: &Ruleset, explanation: &Explanation) -> Outcome {
    match explanation.rule.map(|rule| rule.verdict) {
        None | Some(Verdict::Pass) => Outcome::Pass,
        Some(Verdict::Refuse) => Outcome::Refuse,
        Some(Verdict::Service(_)) if candidates(explanation).next().is_some() => Outcome::Socket,
        Some(Verdict::Service(id)) => match ruleset.services().get(id).map(|service| service.on_missing) {
            Some(OnMissing::Pass) => Outcome::Pass,
            Some(OnMissing::Refuse) | None => Outcome::Refuse,
        },
    }
}

/// What the answer would depend on, had it been given.
fn notes(question: &Question<'_>, ruleset: &Ruleset, explanation: &Explanation) -> Vec<String> {
    let packet: &Packet = &explanation.packet;
    let (mut sources, mut ifaces) = (0, 0);
    let reached = |rule: &Rule| {
        let matching = &rule.matching;
        matching.protocol == packet.protocol
            && matching.local.contains(packet.local.ip())
            && matching.ports.contains(packet.local.port())
    };
    for rule in ruleset.rules().filter(reached) {
        sources += usize::from(rule.matching.source.is_some());
        ifaces += usize::from(rule.matching.iface.is_some());
    }
    let ask = |count: usize, verb: &str| if count == 1 { format!("{verb}s") } else { verb.to_owned() };
    let mut notes = Vec::new();
    if !question.from && sources > 0 {
        let rules = counted(sources, "rule");
        notes.push(format!(
            "no source was given, and {rules} for this address and port {} one: --from SRC:PORT",
            ask(sources, "name")
        ));
    }
    if chosen(explanation).is_some() && depends_on_source(question, explanation) {
        notes.push("no source was given, and among several sockets it decides: --from SRC:PORT".to_owned());
    }
    if question.iface.is_none() && ifaces > 0 {
        let rules = counted(ifaces, "rule");
        notes.push(format!(
            "no interface was given, and {rules} for this address and port {} one: --iface NAME",
            ask(ifaces, "name")
        ));
    }
    notes
}
