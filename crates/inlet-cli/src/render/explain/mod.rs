//! The story of a packet: the decision step by step.

mod answer;
mod report;

use std::path::Path;

use inlet::rules::{Contender, InterfaceName, Prefix, Rule, Ruleset, Standing};
use inlet::{Agreement, Explanation, Outcome, Reach, SocketState};

use self::report::report;
use super::socket;
use super::table::Table;
use super::{Screen, counted};
use crate::failure::Failure;

/// How many of the rules that did not win are shown as text.
const SHOWN: usize = 20;
/// How many policy routing rules a note names.
const POLICIES: usize = 4;

/// What of the packet was given and what was filled in.
pub(crate) struct Question<'a> {
    /// Whether the source was given.
    pub(crate) from: bool,
    /// The interface, when one was given.
    pub(crate) iface: Option<&'a InterfaceName>,
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
    row("packet", asked);
    row("address", address(&explanation.reach));
    row("rule", rule.as_ref().map_or_else(|| "none matches".to_owned(), |rule| ruleset.named(rule).to_string()));
    for (name, line) in others(ruleset, &explanation.contenders) {
        row(name, line);
    }
    row("verdict", decision(ruleset, *rule, explanation.outcome));
    for line in receivers(question, explanation) {
        row("socket", line);
    }
    if let Some(line) = answer::line(explanation) {
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

fn address(reach: &Reach) -> String {
    match reach {
        Reach::Local(route) => format!("local, by the route: {route}"),
        Reach::Multicast => "broadcast or multicast, which never gets to the rules".to_owned(),
        Reach::Elsewhere(route) => format!("not local here: the packet leaves by the route: {route}"),
        Reach::Nowhere => "not local here, and no route leads to it".to_owned(),
    }
}

/// The rules that did not win, with the reason: first those that match, then those for another source or interface.
fn others(ruleset: &Ruleset, contenders: &[Contender]) -> Vec<(&'static str, String)> {
    let line = |contender: &Contender| {
        let rule = ruleset.named(&contender.rule);
        match contender.standing {
            Standing::Wins => None,
            Standing::Beaten(criterion) => Some(("beats", format!("{rule}, by {criterion}"))),
            Standing::OtherSource => Some(("not", format!("{rule}: for another source"))),
            Standing::OtherInterface => Some(("not", format!("{rule}: for another interface"))),
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
    match receiver(question, explanation) {
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
    match (explanation.reach.is_local(), explanation.ordinary.as_slice()) {
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

/// What policy routing has to do with it.
fn policies(explanation: &Explanation) -> String {
    let Explanation { policies, reach_is_exact, .. } = explanation;
    let shown = policies.iter().take(POLICIES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rules = format!("{} ({shown}", counted(policies.len(), "policy routing rule"));
    let dots = if policies.len() > POLICIES { ", ..." } else { "" };
    let address = match reach_is_exact {
        true => "the address is judged for this source and interface, and for a packet without a mark",
        false => "the address is judged by the destination alone; to have them count: --from SRC:PORT --iface NAME",
    };
    format!("there is policy routing, by {rules}{dots}): {address}")
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
    if !explanation.policies.is_empty() {
        notes.push(policies(explanation));
    }
    if matches!(explanation.reach, Reach::Elsewhere(_) | Reach::Nowhere) {
        let addr = Prefix::from(explanation.packet.local.ip());
        let prefix = explanation.rule.map(|rule| rule.matching.local).filter(|local| local.len() > 0).unwrap_or(addr);
        notes.push(format!(
            "rules steer only what is for a local address; make it one with: ip route add local {prefix} dev lo"
        ));
    }
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
