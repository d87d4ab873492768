//! The rules: those that never match, interfaces that are gone, and what never gets to the hook.

use inlet_core::{Interface, Reopened, Rule, Verdict, never_matching, reopened, takers};

use super::{Checkup, Finding, Severity, Subject};
use crate::error::{Error, KernelError, Result, quoted, words};
use crate::snapshot::reopened_fix;

pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    shadowed(subject, found);
    interfaces(subject, found)?;
    multicast(subject, found);
    opened_again(subject, found);
    Ok(())
}

/// Rules that let sources in which others refuse.
fn opened_again(subject: &Subject<'_>, found: &mut Checkup) {
    found.add_each(&reopened(subject.ruleset), |Reopened { by, refusing }| {
        let (by_name, first) = (subject.ruleset.named(by), subject.ruleset.named(&refusing[0]));
        let others = match refusing.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Finding {
            severity: Severity::Note,
            code: "refuse-opened-again",
            what: format!("rule `{by_name}` lets in what `{first}`{others} would refuse"),
            why: "it is more specific, so it decides about its packets, whatever their source".to_owned(),
            fix: match subject.in_file {
                true => "add the refuse with the same prefix and ports, or drop the source in the firewall".to_owned(),
                false => reopened_fix(subject.ruleset, by, &refusing[0]),
            },
        }
    });
}

fn shadowed(subject: &Subject<'_>, found: &mut Checkup) {
    let ruleset = subject.ruleset;
    found.add_each(&never_matching(ruleset), |rule| {
        let by: Vec<String> = takers(ruleset, rule).take(3).map(|it| format!("`{}`", ruleset.named(&it))).collect();
        Finding {
            severity: Severity::Warning,
            code: "rule-never-matches",
            what: format!("rule `{}` can never match", ruleset.named(rule)),
            why: format!("more specific rules take all of its packets, such as {}", by.join(", ")),
            fix: remove(subject, rule),
        }
    });
}

/// The command that takes a rule out.
fn remove(subject: &Subject<'_>, rule: &Rule) -> String {
    match subject.in_file {
        true => "take it out of the file".to_owned(),
        false => format!("inlet unbind {}", words(subject.ruleset, &rule.matching)),
    }
}

/// Interfaces that are gone, or are others than when the rules were put in force.
fn interfaces(subject: &Subject<'_>, found: &mut Checkup) -> Result<()> {
    for Interface { name, index } in subject.ruleset.interfaces() {
        let now = match subject.location.netns().interface_index(name) {
            Err(Error::Kernel(KernelError::AlternativeName { .. })) => None,
            now => now?,
        };
        let why = "rules that name it match nothing";
        match now {
            None if subject.in_file => {
                let what = format!("there is no interface {name}");
                found.add(Severity::Error, "interface-gone", what, "the file is refused", "ip link");
            }
            None => {
                let what = format!("there is no interface {name} any more");
                let fix = format!(
                    "make it again, then: inlet export | inlet apply -; or remove the rules: inlet rules | grep {}",
                    quoted(name.as_str())
                );
                found.add(Severity::Error, "interface-gone", what, why, fix);
            }
            Some(now) if now != *index => {
                let what = format!("interface {name} was made anew since the last commit");
                let why = "rules that name it match nothing until the next commit";
                found.add(Severity::Error, "interface-made-anew", what, why, "inlet export | inlet apply -");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Rules for what never gets to the hook.
fn multicast(subject: &Subject<'_>, found: &mut Checkup) {
    let is_multicast = |rule: &Rule| rule.matching.local.is_multicast() && rule.verdict != Verdict::Pass;
    let rules: Vec<Rule> = subject.ruleset.rules().filter(is_multicast).collect();
    found.add_each(&rules, |rule| Finding {
        severity: Severity::Warning,
        code: "rule-for-multicast",
        what: format!("rule `{}` is for multicast or broadcast", subject.ruleset.named(rule)),
        why: "the kernel delivers such packets without asking, so the rule has no effect".to_owned(),
        fix: remove(subject, rule),
    });
}
