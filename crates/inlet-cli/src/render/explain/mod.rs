//! The story of a packet: the decision step by step.

mod answer;
mod report;
mod route;
mod stays;

use std::path::Path;

use inlet::rules::{Contender, InterfaceName, Rule, Ruleset, Standing, Verdict};
use inlet::{Agreement, Explanation, Outcome, SocketState};

use self::report::report;
use super::socket;
use super::table::Table;
use super::{Screen, counted, hook};
use crate::failure::Failure;

/// How many of the rules that did not win are shown as text.
const SHOWN: usize = 20;

/// The decision when the link is gone.
const NOT_STEERED: &str = "nothing is steered: the kernel's ordinary lookup decides";

/// The decision when a UDP socket is connected to the source.
const CONNECTED: &str = "no rule is asked: a socket is connected to this source, and receives the packet";

/// What of the packet was given and what was filled in.
pub(crate) struct Question<'a> {
    /// Whether the source was given.
    pub(crate) from: bool,
    /// The interface, when one was given.
    pub(crate) iface: Option<&'a InterfaceName>,
    /// The mark, when one was given.
    pub(crate) mark: Option<u32>,
    /// The file that holds the ruleset, when it is not the one in force.
    pub(crate) file: Option<&'a Path>,
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
    if let Some(mark) = question.mark {
        asked.push_str(&format!(" mark {mark:#x}"));
    }
    row("packet", asked);
    for (name, line) in route::rows(explanation) {
        row(name, line);
    }
    row("rule", rule.as_ref().map_or_else(|| "none matches".to_owned(), |rule| ruleset.named(rule).to_string()));
    for (name, line) in others(ruleset, &explanation.contenders) {
        row(name, line);
    }
    row(
        "verdict",
        match explanation.connected {
            Some(_) => CONNECTED.to_owned(),
            None if steers(explanation) => decision(ruleset, *rule, explanation.outcome),
            None => NOT_STEERED.to_owned(),
        },
    );
    for line in receivers(question, explanation) {
        row("socket", line);
    }
    for socket in explanation.elsewhere.iter().filter(|socket| socket.receiving).take(SHOWN) {
        row("not", format!("{}: {}", socket::line(socket), elsewhere(socket)));
    }
    for socket in silent(explanation).take(SHOWN) {
        row("not", format!("{}: rules give it nothing", socket::line(socket)));
    }
    if let Some(line) = stays::line(explanation) {
        row("sticky", line);
    }
    if let Some(line) = answer::line(question, explanation) {
        row("answer", line);
    }
    for line in ordinary(explanation) {
        row("ordinary", line);
    }
    row(
        "program",
        match live {
            Agreement::Agrees => "the live program agrees".to_owned(),
            Agreement::NotAsked(reason) => format!("the live program was not asked: {reason}"),
        },
    );
    for note in notes(question, explanation) {
        row("note", note);
    }
    table.write(screen, 0)
}

/// The rules that did not win, with the reason: first those that match, then those for another source, interface or
/// mark.
fn others(ruleset: &Ruleset, contenders: &[Contender]) -> Vec<(&'static str, String)> {
    let line = |contender: &Contender| {
        let rule = ruleset.named(&contender.rule);
        match contender.standing {
            Standing::Wins => None,
            Standing::Beaten(criterion) => Some(("beats", format!("{rule}, by {criterion}"))),
            Standing::OtherSource => Some(("not", format!("{rule}: for another source"))),
            Standing::OtherInterface => Some(("not", format!("{rule}: for another interface"))),
            Standing::OtherMark => Some(("not", format!("{rule}: for another mark"))),
        }
    };
    let mut lines: Vec<_> = contenders.iter().filter_map(line).collect();
    lines.sort_by_key(|(name, _)| *name != "beats");
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(("beats", format!("and {}; all of them with --json", counted(more, "more rule"))));
    }
    lines
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
    match explanation.connected.as_ref().or(receiver(question, explanation)) {
        Some(socket) => vec![socket::line(socket)],
        None => one_of(&candidates(explanation).collect::<Vec<_>>()),
    }
}

/// What the kernel's ordinary lookup gives: with a verdict of pass that is what happens, else what would without Inlet.
fn ordinary(explanation: &Explanation) -> Vec<String> {
    let refused = match explanation.outcome {
        Outcome::Pass => "no socket is bound to it: the packet is refused",
        _ => "without Inlet: no socket is bound to it, the packet is refused",
    };
    match (explanation.routing.reach.is_local(), explanation.ordinary.as_slice()) {
        (false, _) => Vec::new(),
        (true, []) => vec![refused.to_owned()],
        (true, sockets) if explanation.outcome == Outcome::Pass => one_of(&sockets.iter().collect::<Vec<_>>()),
        (true, sockets) => {
            let lines = one_of(&sockets.iter().collect::<Vec<_>>());
            lines.into_iter().map(|line| format!("without Inlet: {line}")).collect()
        }
    }
}

fn one_of(sockets: &[&SocketState]) -> Vec<String> {
    match sockets {
        [one] => vec![socket::line(one)],
        several => {
            several.iter().map(|socket| format!("one of {} sockets: {}", several.len(), socket::line(socket))).collect()
        }
    }
}

fn candidates(explanation: &Explanation) -> impl Iterator<Item = &SocketState> {
    explanation.sockets.iter().filter(|socket| socket.receiving && steers(explanation))
}

/// The sockets of the service that receive nothing by rules.
fn silent(explanation: &Explanation) -> impl Iterator<Item = &SocketState> {
    explanation.sockets.iter().chain(&explanation.elsewhere).filter(|socket| !socket.receiving)
}

/// Whether the rules decide, as far as it is known.
fn steers(explanation: &Explanation) -> bool {
    explanation.hook.as_ref().is_none_or(|hook| hook::is_steering(hook) != Some(false))
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

/// Why a socket that is bound to an interface does not receive the packet.
fn elsewhere(socket: &SocketState) -> String {
    match socket.device.as_ref().map(|device| (&device.name, &device.vrf)) {
        Some((name, Some(vrf))) => {
            format!("bound to {name}, which belongs to VRF {vrf}: packets of a VRF come in on the VRF")
        }
        Some((name, None)) => format!("it receives only what comes in on {name}"),
        None => "it is of no use for this packet".to_owned(),
    }
}

/// That a rule refuses the source, and does not decide.
fn opened_again(explanation: &Explanation) -> Option<String> {
    let winner = explanation.rule.filter(|rule| rule.verdict != Verdict::Refuse)?;
    let refuses = |it: &&Contender| {
        let source = |rule: &Rule| rule.matching.source.map_or(0, |source| source.len());
        let beaten = matches!(it.standing, Standing::Beaten(_)) && it.rule.verdict == Verdict::Refuse;
        beaten && source(&it.rule) > source(&winner)
    };
    let refusing = explanation.contenders.iter().find(refuses)?.rule.matching;
    let (protocol, local, ports) = (winner.matching.protocol, winner.matching.local, winner.matching.ports);
    let source = refusing.source?;
    Some(format!(
        "a rule refuses {source}, but a more specific one decides; to keep it out here too: inlet bind --refuse {protocol} {local} {ports} --from {source}, or drop it in the firewall"
    ))
}

/// What the answer would depend on, had it been given, and what else is to be known.
fn notes(question: &Question<'_>, explanation: &Explanation) -> Vec<String> {
    let count = |names: fn(&Rule) -> bool| explanation.contenders.iter().filter(|it| names(&it.rule)).count();
    let sources = count(|rule| rule.matching.source.is_some());
    let ifaces = count(|rule| rule.matching.iface.is_some());
    let ask = |count: usize, verb: &str| if count == 1 { format!("{verb}s") } else { verb.to_owned() };
    let mut notes = Vec::new();
    if let Some(file) = question.file {
        notes.push(format!("this is by the rules of {}, which are not in force", file.display()));
    }
    notes.extend(route::notes(explanation));
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
    if let (Some(vrf), Some(iface)) = (&explanation.vrf, question.iface) {
        notes.push(format!("{iface} belongs to VRF {vrf}: for rules and sockets its packets come in on {vrf}"));
    }
    let bound = explanation.elsewhere.iter().filter(|socket| socket.receiving).count();
    if question.iface.is_none() && bound > 0 {
        let [sockets, are] = [counted(bound, "socket"), (if bound == 1 { "is" } else { "are" }).to_owned()];
        notes.push(format!("no interface was given, and {sockets} of the service {are} bound to one: --iface NAME"));
    }
    let silence = silent(explanation).find_map(SocketState::silence).filter(|_| explanation.connected.is_none());
    notes.extend(silence.map(|(why, fix)| format!("{why}: {fix}")));
    notes.extend(opened_again(explanation));
    if question.iface.is_none() && ifaces > 0 {
        let rules = counted(ifaces, "rule");
        notes.push(format!(
            "no interface was given, and {rules} for this address and port {} one: --iface NAME",
            ask(ifaces, "name")
        ));
    }
    let marks = count(|rule| rule.matching.mark.is_some());
    if question.mark.is_none() && marks > 0 {
        let rules = counted(marks, "rule");
        notes.push(format!(
            "no mark was given, and {rules} for this address and port {} one: --mark VALUE",
            ask(marks, "name")
        ));
    }
    if explanation.passes_if_answer {
        notes.push(
            "it passes when it answers what an unconnected socket here asked: that is not known from the rules"
                .to_owned(),
        );
    }
    notes.extend(hook::notes(explanation));
    notes
}
