//! What a commit changed, or would change.

mod report;

use inlet::rules::{Answers, Change, Plan, Prefix, Ruleset, ServiceChange, Verdict};
use inlet::{Committed, Proposal, RouteChanges, Warning};
use serde::Serialize;

use super::traffic::{Movements, Traffic};
use super::{Screen, counted, palette::paint, warnings as warned};
use crate::failure::Failure;

/// So many changed rules are shown to people; programs get all.
const SHOWN: usize = 50;

/// Two rulesets and what differs.
#[derive(Clone, Copy)]
struct Difference<'a> {
    plan: &'a Plan,
    before: &'a Ruleset,
    after: &'a Ruleset,
}

/// Shows a commit; `after` is the ruleset that it put in force.
pub(crate) fn committed(
    screen: &mut Screen<'_>,
    committed: &Committed,
    after: &Ruleset,
    warnings: &[Warning],
) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&done(committed, after, warnings));
    }
    let Committed { generation, plan, before, routes, .. } = committed;
    Difference { plan, before, after }.text(screen, SHOWN, None, routes.is_empty())?;
    route_changes(screen, routes)?;
    warned::warn(screen, before, after, warnings, SHOWN)?;
    Ok(writeln!(screen.out, "generation {generation}")?)
}

/// Shows a commit of a whole ruleset, with the traffic that it moved when that is not much; `within` is the time in
/// which it has to be confirmed.
pub(crate) fn applied(
    screen: &mut Screen<'_>,
    committed: &Committed,
    after: &Ruleset,
    warnings: &[Warning],
    within: Option<u64>,
) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&Applied { committed: done(committed, after, warnings), confirm_within: within });
    }
    let Committed { generation, plan, before, routes, .. } = committed;
    let both = Difference { plan, before, after };
    let moved = (plan.rules.len() <= SHOWN).then(|| both.moved(SHOWN));
    both.text(screen, SHOWN, moved.as_ref(), routes.is_empty())?;
    route_changes(screen, routes)?;
    warned::warn(screen, before, after, warnings, SHOWN)?;
    writeln!(screen.out, "generation {generation}")?;
    if let Some(seconds) = within {
        let seconds = counted(usize::try_from(seconds).unwrap_or(usize::MAX), "second");
        writeln!(screen.out, "goes back in {seconds} unless confirmed with: inlet confirm")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Applied<T> {
    #[serde(flatten)]
    committed: T,
    confirm_within: Option<u64>,
}

/// A commit.
#[derive(Serialize)]
struct Done<T, W> {
    generation: u64,
    #[serde(flatten)]
    difference: T,
    routes: Routes,
    warnings: Vec<W>,
    /// What could not be had, and why.
    without: Vec<Missing>,
}

#[derive(Serialize)]
struct Missing {
    reason: String,
    fix: Option<String>,
}

fn done<'a>(committed: &'a Committed, after: &'a Ruleset, warnings: &'a [Warning]) -> impl Serialize + 'a {
    let Committed { generation, plan, before, keeps_routes, routes, without, .. } = committed;
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect();
    let routes = Routes { kept: *keeps_routes, added: texts(&routes.added), removed: texts(&routes.removed) };
    let missing = |error: &inlet::Error| Missing {
        reason: error.to_string(),
        fix: error.remedy().map(std::borrow::Cow::into_owned),
    };
    let without = without.iter().map(missing).collect();
    let warnings = warned::reports(before, after, warnings);
    let difference = Difference { plan, before, after }.report();
    Done { generation: *generation, difference, routes, warnings, without }
}

/// The local routes: whether Inlet keeps them, and the prefixes that came and went.
#[derive(Serialize)]
struct Routes {
    kept: bool,
    added: Vec<String>,
    removed: Vec<String>,
}

#[derive(Serialize)]
struct Confirmed {
    generation: u64,
}

pub(crate) fn confirmed(screen: &mut Screen<'_>, generation: u64) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&Confirmed { generation });
    }
    Ok(writeln!(screen.out, "generation {generation} stays")?)
}

/// Shows what a ruleset would change. Without `all` only so much of it.
pub(crate) fn proposal(
    screen: &mut Screen<'_>,
    proposal: &Proposal,
    warnings: &[Warning],
    all: bool,
) -> Result<(), Failure> {
    let Proposal { plan, before, after, keeps_routes, would_keep_routes, .. } = proposal;
    let both = Difference { plan, before, after };
    if screen.json {
        return screen.document(&Planned {
            change: both.report(),
            keeps_routes: *would_keep_routes,
            traffic: Traffic(proposal),
            warnings: warned::reports(before, after, warnings),
        });
    }
    let shown = if all { usize::MAX } else { SHOWN };
    let moved = both.moved(shown);
    both.text(screen, shown, Some(&moved), proposal.is_empty())?;
    match (keeps_routes, would_keep_routes) {
        (false, true) => writeln!(screen.out, "{}", paint(screen.palette.good, "+ inlet keeps the local routes"))?,
        (true, false) => writeln!(screen.out, "{}", paint(screen.palette.bad, "- inlet keeps the local routes"))?,
        _ => {}
    }
    warned::warn(screen, before, after, warnings, shown)
}

#[derive(Serialize)]
struct Planned<T, M, W> {
    #[serde(flatten)]
    change: T,
    keeps_routes: bool,
    traffic: M,
    warnings: Vec<W>,
}

impl Difference<'_> {
    /// What moves, for the changes that are shown.
    fn moved(&self, shown: usize) -> Movements {
        Movements::of(self.plan, self.before, self.after, shown)
    }

    /// One line for each change, and below it one for each kind of packets that it moves.
    fn text(
        &self,
        screen: &mut Screen<'_>,
        shown: usize,
        moved: Option<&Movements>,
        nothing_else: bool,
    ) -> Result<(), Failure> {
        let plan = self.plan;
        if plan.is_empty() && nothing_else {
            writeln!(screen.out, "no change")?;
        }
        for change in &plan.services {
            self.service(screen, change)?;
        }
        let palette = screen.palette;
        for (sign, style, grants) in [("+", palette.good, &plan.granted), ("-", palette.bad, &plan.revoked)] {
            for grant in grants {
                writeln!(screen.out, "{}", paint(style, format_args!("{sign} grant {grant}")))?;
            }
        }
        for (number, change) in plan.in_match_order(shown).into_iter().enumerate() {
            self.rule(screen, change)?;
            if let Some(moved) = moved {
                moved.write(screen, number)?;
            }
        }
        if let Some(more) = plan.rules.len().checked_sub(shown).filter(|more| *more > 0) {
            writeln!(screen.out, "... and {more} more; {} changed in all", counted(plan.rules.len(), "rule"))?;
        }
        match moved {
            Some(moved) => moved.write_others(screen),
            None => Ok(()),
        }
    }

    fn service(&self, screen: &mut Screen<'_>, change: &ServiceChange) -> Result<(), Failure> {
        let palette = screen.palette;
        let (style, line) = match change {
            ServiceChange::Added(name, policy) => (palette.good, format!("+ service {name} (on missing: {policy})")),
            ServiceChange::Removed(name) => (palette.bad, format!("- service {name}")),
            ServiceChange::OnMissing { name, previous: old, new } => {
                (palette.changed, format!("~ service {name} (on missing: {new}, was {old})"))
            }
            ServiceChange::Spread { name, previous, new } => {
                (palette.changed, format!("~ service {name} (spread: {new}, was {previous})"))
            }
            ServiceChange::Answers { name, new, .. } => {
                let from = new.map_or("asked where the host can", Answers::as_str);
                (palette.changed, format!("~ service {name} (answers: {from})"))
            }
            ServiceChange::Sticky { name, new, .. } if new.is_on() => {
                (palette.changed, format!("~ service {name} (sticky: flows over UDP stay for {new} s)"))
            }
            ServiceChange::Sticky { name, .. } => (palette.changed, format!("~ service {name} (not sticky)")),
            ServiceChange::Described { name, new: Some(new), .. } => {
                (palette.changed, format!("~ service {name}: {new}"))
            }
            ServiceChange::Described { name, new: None, .. } => {
                (palette.changed, format!("~ service {name}: not described"))
            }
        };
        Ok(writeln!(screen.out, "{}", paint(style, line))?)
    }

    fn rule(&self, screen: &mut Screen<'_>, change: &Change) -> Result<(), Failure> {
        let (palette, Self { before, after, .. }) = (screen.palette, self);
        let (style, line) = match change {
            Change::Added(rule) => (palette.good, format!("+ {}", after.named(rule))),
            Change::Removed(rule) => (palette.bad, format!("- {}", before.named(rule))),
            Change::Replaced { new, previous: old } => {
                (palette.changed, format!("~ {} (was {})", after.named(new), Former(before, *old)))
            }
        };
        Ok(writeln!(screen.out, "{}", paint(style, line))?)
    }
}

/// The local routes that came and went, as ip-route(8) writes them.
fn route_changes(screen: &mut Screen<'_>, routes: &RouteChanges) -> Result<(), Failure> {
    let palette = screen.palette;
    for (sign, style, prefixes) in [("+", palette.good, &routes.added), ("-", palette.bad, &routes.removed)] {
        for prefix in prefixes.iter().take(SHOWN) {
            writeln!(screen.out, "{}", paint(style, format_args!("{sign} route local {prefix} dev lo")))?;
        }
        if let Some(more) = prefixes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(screen.out, "{sign} {}", counted(more, "more route"))?;
        }
    }
    Ok(())
}

/// A verdict of a ruleset, in words.
struct Former<'a>(&'a Ruleset, Verdict);

impl std::fmt::Display for Former<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Verdict::Pass => f.write_str("pass"),
            Verdict::Refuse => f.write_str("refuse"),
            Verdict::Service(_) => f.write_str(self.0.service_name(self.1).unwrap_or("?")),
        }
    }
}
