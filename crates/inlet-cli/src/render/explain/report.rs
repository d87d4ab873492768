//! The story of a packet as JSON.

use inlet::rules::config::rule_json;
use inlet::rules::{Contender, InterfaceName, Ruleset, Standing};
use inlet::{Agreement, Explanation, Hook, Outcome};
use serde::Serialize;

use super::super::hook;
use super::super::socket::Socket;
use super::answer::Answer;
use super::route::{Address, address};
use super::stays::Sticky;
use super::{Question, candidates, notes, receiver, silent};

#[derive(Serialize)]
struct Report<'a, R> {
    packet: Asked<'a>,
    address: Address<'a>,
    rule: Option<R>,
    rules: Vec<Standings<R>>,
    verdict: Option<&'static str>,
    service: Option<&'a str>,
    outcome: &'static str,
    socket: Option<Socket>,
    candidates: Vec<Socket>,
    /// Sockets of the service that are bound to another interface.
    elsewhere: Vec<Socket>,
    /// Sockets of the service that receive nothing by rules.
    silent: Vec<Socket>,
    /// The socket that is connected to the source.
    connected: Option<Socket>,
    sticky: Option<Sticky>,
    passes_if_answer: bool,
    answer: Option<Answer>,
    without: Without,
    program: Program,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Asked<'a> {
    protocol: &'static str,
    local: String,
    from: String,
    iface: Option<&'a str>,
    mark: Option<String>,
}

/// A rule with how it stands.
#[derive(Serialize)]
struct Standings<R> {
    rule: R,
    standing: &'static str,
    by: Option<&'static str>,
}

/// What happens without Inlet.
#[derive(Serialize)]
struct Without {
    outcome: &'static str,
    sockets: Vec<Socket>,
}

#[derive(Serialize)]
struct Program {
    asked: bool,
    reason: Option<String>,
    steering: Option<bool>,
    hook: Option<Vec<hook::Program>>,
}

pub(super) fn report<'a>(
    question: &Question<'a>,
    ruleset: &'a Ruleset,
    explanation: &'a Explanation,
) -> impl Serialize {
    let Explanation { packet, rule, routing, live, .. } = explanation;
    let standings = |contender: &'a Contender| {
        let (standing, by) = match contender.standing {
            Standing::Wins => ("wins", None),
            Standing::Beaten(criterion) => ("beaten", Some(criterion.as_str())),
            Standing::OtherSource => ("other_source", None),
            Standing::OtherInterface => ("other_interface", None),
            Standing::OtherMark => ("other_mark", None),
        };
        Standings { rule: rule_json(ruleset, &contender.rule), standing, by }
    };
    Report {
        packet: Asked {
            protocol: packet.protocol.as_str(),
            local: packet.local.to_string(),
            from: packet.remote.to_string(),
            iface: question.iface.map(InterfaceName::as_str),
            mark: question.mark.map(|mark| format!("{mark:#x}")),
        },
        address: address(routing),
        rule: rule.as_ref().map(|rule| rule_json(ruleset, rule)),
        rules: explanation.contenders.iter().map(standings).collect(),
        verdict: rule.map(|rule| rule.verdict.as_str()),
        service: rule.and_then(|rule| ruleset.service_name(rule.verdict)),
        outcome: match explanation.outcome {
            Outcome::Socket => "socket",
            Outcome::Pass => "pass",
            Outcome::Refuse => "refuse",
        },
        socket: explanation.connected.as_ref().or(receiver(question, explanation)).map(Socket::from),
        candidates: candidates(explanation).map(Socket::from).collect(),
        elsewhere: explanation.elsewhere.iter().map(Socket::from).collect(),
        silent: silent(explanation).map(Socket::from).collect(),
        connected: explanation.connected.as_ref().map(Socket::from),
        sticky: super::stays::report(explanation),
        passes_if_answer: explanation.passes_if_answer,
        answer: super::answer::report(explanation),
        without: without(explanation),
        program: program(*live, explanation.hook.as_ref()),
        notes: notes(question, explanation),
    }
}

fn program(live: Agreement, hook: Option<&Hook>) -> Program {
    let reason = match live {
        Agreement::Agrees => None,
        Agreement::NotAsked(reason) => Some(reason.to_string()),
    };
    Program {
        asked: reason.is_none(),
        reason,
        steering: hook.and_then(hook::is_steering),
        hook: hook.and_then(hook::programs),
    }
}

fn without(explanation: &Explanation) -> Without {
    let outcome = match (explanation.routing.reach.is_local(), explanation.ordinary.is_empty()) {
        (false, _) => "not_local",
        (true, true) => "refuse",
        (true, false) => "socket",
    };
    let sockets =
        if outcome == "socket" { explanation.ordinary.iter().map(Socket::from).collect() } else { Vec::new() };
    Without { outcome, sockets }
}
