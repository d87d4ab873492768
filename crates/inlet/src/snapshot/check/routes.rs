//! The routes: whether the prefixes of rules are local to this host, for all packets or for some, and whether sockets can
//! answer from them.

use std::collections::{BTreeSet, HashMap};

use inlet_core::{Family, Prefix, steered_prefixes};

use super::{Checkup, Finding, LISTED, Severity, Subject};
use crate::error::{Error, Result, RouteError};
use crate::route::{Part, Reach, Route, RoutePlan, Unless};

/// How many parts of a prefix a finding names.
const NAMED: usize = 3;
/// The codes of what is said of a prefix.
const NOT_LOCAL: &str = "prefix-not-local";
const FOR_SOME: &str = "prefix-local-for-some";
const NO_ANSWER: &str = "prefix-cannot-answer";

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    if subject.in_file && subject.keeps_routes {
        return routes_to_come(subject, found);
    }
    let steered = steered_prefixes(subject.ruleset.rules());
    let (borders, mut answers) = (subject.model.borders(), Answers::default());
    let [mut not_local, mut for_some, mut no_answer] = [const { Few::new() }; 3];
    for prefix in steered.iter() {
        let parts = subject.model.parts(&borders, *prefix);
        let lost = lost(&parts);
        if !lost.is_empty() {
            not_local.add(|| lost_finding(subject, *prefix, &parts, &lost));
        }
        if let Some((part, unless)) = conditional(&parts) {
            for_some.add(|| conditional_finding(*prefix, &parts, part, unless));
        }
        if let Some((part, route)) = answers.missing(subject, &parts)? {
            no_answer.add(|| mute_finding(*prefix, part, route));
        }
    }
    [not_local, for_some, no_answer].into_iter().for_each(|few| few.report(found));
    let families: BTreeSet<Family> = steered.iter().map(Prefix::family).collect();
    let unknown = families.into_iter().flat_map(|family| subject.model.unknown(family));
    found.unchecked.extend(unknown.map(|what| format!("what {what} does: inlet does not know it")));
    Ok(())
}

/// The first findings of a kind, and how many there are: a ruleset may have a million prefixes.
struct Few {
    first: Vec<Finding>,
    count: usize,
}

impl Few {
    const fn new() -> Self {
        Self { first: Vec::new(), count: 0 }
    }

    fn add(&mut self, make: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(make());
        }
    }

    fn report(self, found: &mut Checkup) {
        let more = self.first.last().filter(|_| self.count > LISTED).map(|last| Finding {
            what: format!("{} more of the kind {}", self.count - LISTED, last.code),
            ..last.clone()
        });
        found.findings.extend(self.first.into_iter().chain(more));
    }
}

/// Whether the routes that a file asks for can be made.
fn routes_to_come(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    match RoutePlan::of(subject.ruleset, subject.location.netns()) {
        Err(
            error @ (Error::Route(RouteError::CutsOff { .. })
            | Error::Route(RouteError::TooMany { .. })
            | Error::Route(RouteError::LoopbackDown { .. })),
        ) => {
            found.add_error("routes-refused", &error, "the file asks for local routes, and is refused");
            Ok(())
        }
        wanted => wanted.map(drop),
    }
}

/// The parts to which no packet is delivered. Of a prefix that is local else, broadcast and anycast addresses are no news.
fn lost(parts: &[Part]) -> Vec<&Part> {
    let is_some = parts.iter().any(is_local);
    let is_usual = |reach: &Reach| is_some && matches!(reach, Reach::Several | Reach::Anycast(_));
    parts.iter().filter(|part| !is_local(part) && !is_usual(&part.decision.reach)).collect()
}

fn lost_finding(subject: &Subject<'_>, prefix: Prefix, parts: &[Part], lost: &[&Part]) -> Finding {
    let is_some = parts.iter().any(is_local);
    let first = lost[0];
    let what = match &first.decision.reach {
        _ if is_some => format!("{prefix} is local to this host only in part, without {}", named(lost)),
        Reach::Anycast(_) => {
            format!("{prefix} is an IPv6 anycast address, to which the kernel makes no TCP connection")
        }
        Reach::Dropped(by) if lost.len() == 1 => format!("{prefix} is not local to this host, but dropped by {by}"),
        _ => format!("{prefix} is not local to this host"),
    };
    let why = "its packets are not delivered here, so the rules for it have no effect";
    let fix = match subject.keeps_routes {
        // Inlet keeps the routes: any commit makes them anew.
        true => "inlet export | inlet apply --routes -".to_owned(),
        false if lost.iter().any(|part| matches!(part.decision.reach, Reach::Dropped(_))) => {
            format!("take away what drops them (ip route del, ip rule del), or: ip route add local {prefix} dev lo")
        }
        false => format!("ip route add local {prefix} dev lo (or let inlet do it: inlet apply --routes)"),
    };
    // A part of it may be all that is meant, but then nobody makes a route that drops the rest.
    let is_meant = is_some && !lost.iter().any(|part| matches!(part.decision.reach, Reach::Dropped(_)));
    let severity = if is_meant { Severity::Note } else { Severity::Warning };
    Finding { severity, code: NOT_LOCAL, what, why: why.to_owned(), fix }
}

/// Whether the addresses of a part are local, to some packets at least.
fn is_local(part: &Part) -> bool {
    let to_some = |it: &Unless| it.reach.as_ref().is_none_or(Reach::is_local);
    part.decision.reach.is_local() || part.decision.unless.iter().any(to_some)
}

/// The first parts, with what becomes of them.
fn named(parts: &[&Part]) -> String {
    let name = |part: &&Part| match &part.decision.reach {
        Reach::Dropped(by) => format!("{} ({by})", part.range),
        Reach::Elsewhere(route) => format!("{} ({route})", part.range),
        _ => part.range.to_string(),
    };
    let mut text = parts.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if parts.len() > NAMED {
        text.push_str(&format!(" and {} more", parts.len() - NAMED));
    }
    text
}

/// A part that is local only to packets with a mark, from a source, on an interface and the like, or to all but those.
fn conditional(parts: &[Part]) -> Option<(&Part, &Unless)> {
    let part = parts.iter().find(|part| is_local(part) && !part.decision.unless.is_empty())?;
    Some((part, part.decision.unless.first()?))
}

fn conditional_finding(prefix: Prefix, parts: &[Part], part: &Part, Unless { by, .. }: &Unless) -> Finding {
    let range = if parts.len() == 1 { prefix.to_string() } else { format!("{} in {prefix}", part.range) };
    let (what, severity) = match part.decision.reach.is_local() {
        true => {
            (format!("{range} is local to this host, but not to packets for which this decides: {by}"), Severity::Note)
        }
        false => {
            (format!("{range} is local to this host only for packets for which this decides: {by}"), Severity::Warning)
        }
    };
    let fix = "ask about one packet with: inlet explain PROTOCOL ADDRESS:PORT --from SRC:PORT --iface NAME; or look at: ip rule";
    let why = "other packets are not delivered here, so the rules have no effect on them";
    Finding { severity, code: FOR_SOME, what, why: why.to_owned(), fix: fix.to_owned() }
}

/// Whether sockets can answer by a route, asked once for each.
#[derive(Default)]
struct Answers(HashMap<(Prefix, u32, u8), bool>);

impl Answers {
    /// A part that is local, and from which the kernel lets no ordinary socket answer.
    fn missing<'a>(&mut self, subject: &Subject<'_>, parts: &'a [Part]) -> Result<Option<(&'a Part, &'a Route)>> {
        for part in parts {
            let Some(route) = local_route(part) else { continue };
            let key = (route.prefix, route.table, route.tos);
            let answers = match self.0.get(&key) {
                Some(known) => *known,
                None => subject.routes.lets_answer(route, part.range.first())?,
            };
            self.0.insert(key, answers);
            if !answers {
                return Ok(Some((part, route)));
            }
        }
        Ok(None)
    }
}

fn mute_finding(prefix: Prefix, part: &Part, route: &Route) -> Finding {
    let what = format!("{} is local to this host only by the route: {route}", part.range);
    let why = "an IPv4 socket without IP_TRANSPARENT answers only from addresses that are local by the table `local`, \
        so TCP clients time out and answers over UDP fail";
    let fix = format!("ip route add local {prefix} dev lo (or let inlet do it: inlet apply --routes)");
    Finding { severity: Severity::Warning, code: NO_ANSWER, what, why: why.to_owned(), fix }
}

/// The route by which a part is local, to all packets or to some.
fn local_route(part: &Part) -> Option<&Route> {
    let conditional = part.decision.unless.iter().filter_map(|it| it.reach.as_ref());
    let mut all = std::iter::once(&part.decision.reach).chain(conditional);
    all.find(|reach| reach.is_local()).and_then(Reach::route)
}
