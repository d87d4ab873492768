//! Packets that get another answer.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use inlet::Proposal;
use inlet::rules::config::rule_json;
use inlet::rules::{AddrRange, Arrival, Change, Mark, Marks, Moved, Plan, Rule, Ruleset, traffic, traffic_to};
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};

use super::Screen;
use crate::failure::Failure;

/// So many kinds of packets are shown for each change.
const SHOWN: usize = 8;

/// What moves, by the change that moves it, as lines.
pub(crate) struct Movements {
    limit: usize,
    by_change: Vec<Lines>,
    /// What no changed rule does: an interface has another index.
    others: Lines,
}

/// Some lines, and how many there are in all.
#[derive(Default)]
struct Lines {
    shown: Vec<String>,
    count: usize,
    /// Packets that the change no longer decides about stand below another change.
    elsewhere: bool,
}

impl Lines {
    fn push(&mut self, limit: usize, line: impl FnOnce() -> String) {
        if self.shown.len() < limit {
            self.shown.push(line());
        }
        self.count += 1;
    }

    fn write(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        for line in &self.shown {
            writeln!(screen.out, "    {line}")?;
        }
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => Ok(writeln!(screen.out, "    ... and {more} more kinds of packets (all of them: --all)")?),
        }
    }
}

impl Movements {
    /// What moves for the first changes in match order, so many of them.
    pub(crate) fn of(plan: &Plan, before: &Ruleset, after: &Ruleset, changes: usize) -> Self {
        let limit = if changes == usize::MAX { usize::MAX } else { SHOWN };
        let order = plan.in_match_order(changes);
        let mut of_rule: HashMap<(bool, Rule), usize> = HashMap::new();
        for (number, change) in order.iter().enumerate() {
            match change {
                Change::Added(rule) | Change::Replaced { new: rule, .. } => of_rule.insert((true, *rule), number),
                Change::Removed(rule) => of_rule.insert((false, *rule), number),
            };
        }
        let mut movements = Self { limit, by_change: Vec::new(), others: Lines::default() };
        movements.by_change.resize_with(order.len(), Lines::default);
        let all_shown = order.len() == plan.rules.len();
        let mut each = |moved: Moved| {
            let find = |is_new: bool, rule: Option<Rule>| of_rule.get(&(is_new, rule?)).copied();
            let (gained, lost) = (find(true, moved.new), find(false, moved.previous));
            let line = || line(before, after, &moved);
            match gained.or(lost) {
                Some(number) => movements.by_change[number].push(movements.limit, line),
                None if all_shown => movements.others.push(movements.limit, line),
                None => {}
            }
            if let Some(lost) = lost.filter(|lost| gained.is_some_and(|gained| gained != *lost)) {
                movements.by_change[lost].elsewhere = true;
            }
            ControlFlow::Continue(())
        };
        match all_shown {
            true => traffic(before, after, plan, &mut each),
            false => {
                let prefixes = order.iter().map(|change| change.matching().local).collect();
                traffic_to(before, after, plan, prefixes, &mut each);
            }
        }
        movements
    }

    /// What one change moves.
    pub(crate) fn write(&self, screen: &mut Screen<'_>, number: usize) -> Result<(), Failure> {
        let lines = &self.by_change[number];
        if lines.count == 0 && !lines.elsewhere {
            return Ok(writeln!(screen.out, "    no packet gets another answer by this")?);
        }
        lines.write(screen)
    }

    /// What no changed rule moves.
    pub(crate) fn write_others(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        if self.others.count > 0 {
            writeln!(screen.out, "~ interfaces have another index than at the last commit")?;
        }
        self.others.write(screen)
    }
}

/// `tcp 192.0.2.7:443 from 203.0.113.0/24 iface eth0: web -> proxy`
fn line(before: &Ruleset, after: &Ruleset, moved: &Moved) -> String {
    let mut line = packets(before, after, moved);
    let (old, new) = (answer(before, moved.previous.as_ref()), answer(after, moved.new.as_ref()));
    // Writing to a String does not fail.
    let _ = write!(line, ": {old} -> {new}");
    line
}

/// Which packets.
pub(super) fn packets(before: &Ruleset, after: &Ruleset, moved: &Moved) -> String {
    let bracket = moved.local.first().is_ipv6();
    let (open, close) = if bracket { ("[", "]") } else { ("", "") };
    let mut text = format!("{} {open}{}{close}:{}", moved.protocol, moved.local, moved.ports);
    if let Some(source) = moved.source {
        let _ = write!(text, " from {source}");
    }
    match &moved.arrival {
        Arrival::Any => {}
        Arrival::On(index) => _ = write!(text, " iface {}", interface(before, after, *index)),
        Arrival::NotOn(indexes) => {
            let names: Vec<String> = indexes.iter().map(|index| interface(before, after, *index)).collect();
            let _ = write!(text, " not iface {}", names.join(","));
        }
    }
    match &moved.marks {
        Marks::Any => {}
        marks => _ = write!(text, " {marks}"),
    }
    text
}

fn answer<'a>(ruleset: &'a Ruleset, rule: Option<&Rule>) -> &'a str {
    match rule {
        None => "no rule",
        Some(rule) => ruleset.service_name(rule.verdict).unwrap_or(rule.verdict.as_str()),
    }
}

/// The name of an interface that one of the rulesets names, the new one first.
fn interface(before: &Ruleset, after: &Ruleset, index: u32) -> String {
    let mut all = after.interfaces().iter().chain(before.interfaces());
    all.find(|interface| interface.index == index).map_or_else(|| index.to_string(), |it| it.name.to_string())
}

/// All that moves, made into JSON as it is found: it may be a million entries.
pub(crate) struct Traffic<'a>(pub(crate) &'a Proposal);

#[derive(Serialize)]
struct Entry<R> {
    protocol: &'static str,
    local: String,
    ports: String,
    from: Option<String>,
    iface: Option<String>,
    not_iface: Vec<String>,
    mark: Option<String>,
    not_mark: Vec<String>,
    was: Option<Answer<R>>,
    now: Option<Answer<R>>,
}

#[derive(Serialize)]
struct Answer<R> {
    verdict: &'static str,
    service: Option<String>,
    rule: R,
}

impl Serialize for Traffic<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_seq(None)?;
        let mut failed = None;
        self.0.traffic(&mut |moved| match entries.serialize_element(&entry(&self.0.before, &self.0.after, &moved)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        });
        match failed {
            Some(error) => Err(S::Error::custom(error)),
            None => entries.end(),
        }
    }
}

pub(super) fn entry<'a>(before: &'a Ruleset, after: &'a Ruleset, moved: &'a Moved) -> impl Serialize + use<'a> {
    let name = |index: &u32| interface(before, after, *index);
    let (iface, not_iface) = match &moved.arrival {
        Arrival::Any => (None, Vec::new()),
        Arrival::On(index) => (Some(name(index)), Vec::new()),
        Arrival::NotOn(indexes) => (None, indexes.iter().map(name).collect()),
    };
    let (mark, not_mark) = match &moved.marks {
        Marks::Any => (None, Vec::new()),
        Marks::Of(mark) => (Some(mark.to_string()), Vec::new()),
        Marks::NotOf(marks) => (None, marks.iter().map(Mark::to_string).collect()),
    };
    Entry {
        protocol: moved.protocol.as_str(),
        local: moved.local.to_string(),
        ports: moved.ports.to_string(),
        from: moved.source.as_ref().map(AddrRange::to_string),
        iface,
        not_iface,
        mark,
        not_mark,
        was: moved.previous.as_ref().map(|rule| answer_json(before, rule)),
        now: moved.new.as_ref().map(|rule| answer_json(after, rule)),
    }
}

fn answer_json<'a>(ruleset: &'a Ruleset, rule: &'a Rule) -> Answer<impl Serialize + 'a> {
    let service = ruleset.service_name(rule.verdict).map(str::to_owned);
    Answer { verdict: rule.verdict.as_str(), service, rule: rule_json(ruleset, rule) }
}
