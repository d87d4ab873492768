//! What a commit changed.

use inlet::core::config::rule_json;
use inlet::core::{Change, Description, Prefix, Rule, Ruleset, ServiceChange, ServiceName, Verdict};
use inlet::{Committed, RouteChanges};
use serde::{Serialize, Serializer};

use super::{Screen, counted, palette::paint};
use crate::failure::Failure;

/// So many changed rules are shown to people; programs get all.
const SHOWN: usize = 50;

/// Shows a commit; `after` is the ruleset that it put in force.
pub(crate) fn committed(screen: &mut Screen<'_>, committed: &Committed, after: &Ruleset) -> Result<(), Failure> {
    if screen.json { screen.document(&report(committed, after)) } else { text(screen, committed, after) }
}

fn text(screen: &mut Screen<'_>, committed: &Committed, after: &Ruleset) -> Result<(), Failure> {
    let Committed { generation, plan, before, routes, .. } = committed;
    let palette = screen.palette;
    if plan.is_empty() && routes.is_empty() {
        writeln!(screen.out, "no change")?;
    }
    for change in &plan.services {
        match change {
            ServiceChange::Added(name, policy) => {
                writeln!(
                    screen.out,
                    "{}",
                    paint(palette.good, format_args!("+ service {name} (on missing: {policy})"))
                )?;
            }
            ServiceChange::Removed(name) => {
                writeln!(screen.out, "{}", paint(palette.bad, format_args!("- service {name}")))?;
            }
            ServiceChange::OnMissing { name, old, new } => {
                let line = format_args!("~ service {name} (on missing: {new}, was {old})");
                writeln!(screen.out, "{}", paint(palette.changed, line))?;
            }
            ServiceChange::Described { name, new: Some(new), .. } => {
                writeln!(screen.out, "{}", paint(palette.changed, format_args!("~ service {name}: {new}")))?;
            }
            ServiceChange::Described { name, new: None, .. } => {
                writeln!(screen.out, "{}", paint(palette.changed, format_args!("~ service {name}: not described")))?;
            }
        }
    }
    for change in plan.rules.iter().take(SHOWN) {
        match change {
            Change::Added(rule) => {
                writeln!(screen.out, "{}", paint(palette.good, format_args!("+ {}", after.named(rule))))?;
            }
            Change::Removed(rule) => {
                writeln!(screen.out, "{}", paint(palette.bad, format_args!("- {}", before.named(rule))))?;
            }
            Change::Replaced { new, old } => {
                let line = format_args!("~ {} (was {})", after.named(new), Former(before, *old));
                writeln!(screen.out, "{}", paint(palette.changed, line))?;
            }
        }
    }
    if let Some(more) = plan.rules.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        writeln!(screen.out, "... and {more} more; {} changed in all", counted(plan.rules.len(), "rule"))?;
    }
    route_changes(screen, routes)?;
    Ok(writeln!(screen.out, "generation {generation}")?)
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

#[derive(Serialize)]
struct Report<A, R, C> {
    generation: u64,
    added: Vec<A>,
    removed: Vec<R>,
    replaced: Vec<C>,
    services: Vec<Service>,
    routes: Routes,
}

/// The local routes: whether Inlet keeps them, and the prefixes that came and went.
#[derive(Serialize)]
struct Routes {
    kept: bool,
    added: Vec<String>,
    removed: Vec<String>,
}

/// A rule with the verdict that it had.
#[derive(Serialize)]
struct Replaced<T> {
    #[serde(flatten)]
    rule: T,
    was: Was,
}

#[derive(Serialize)]
struct Was {
    verdict: &'static str,
    service: Option<String>,
}

#[derive(Serialize)]
struct Service {
    change: &'static str,
    name: String,
    on_missing: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    was: Option<String>,
}

fn report<'a>(committed: &'a Committed, after: &'a Ruleset) -> impl Serialize + 'a {
    let Committed { generation, plan, before, keeps_routes, routes } = committed;
    let (mut added, mut removed, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for change in &plan.rules {
        match change {
            Change::Added(rule) => added.push(Reported(after, rule)),
            Change::Removed(rule) => removed.push(Reported(before, rule)),
            Change::Replaced { new, old } => {
                let was = Was { verdict: old.as_str(), service: before.service_name(*old).map(str::to_owned) };
                replaced.push(Replaced { rule: Reported(after, new), was });
            }
        }
    }
    let services = plan.services.iter().map(service).collect();
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect();
    let routes = Routes { kept: *keeps_routes, added: texts(&routes.added), removed: texts(&routes.removed) };
    Report { generation: *generation, added, removed, replaced, services, routes }
}

/// A rule of a ruleset, made into JSON when it is written.
struct Reported<'a>(&'a Ruleset, &'a Rule);

impl Serialize for Reported<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        rule_json(self.0, self.1).serialize(serializer)
    }
}

fn service(change: &ServiceChange) -> Service {
    let service = |change, name: &ServiceName| Service {
        change,
        name: name.to_string(),
        on_missing: None,
        description: None,
        was: None,
    };
    match change {
        ServiceChange::Added(name, policy) => Service { on_missing: Some(policy.as_str()), ..service("added", name) },
        ServiceChange::Removed(name) => service("removed", name),
        ServiceChange::OnMissing { name, old, new } => {
            let was = Some(old.to_string());
            Service { on_missing: Some(new.as_str()), was, ..service("replaced", name) }
        }
        ServiceChange::Described { name, old, new } => {
            let text = |description: &Option<Description>| description.as_ref().map(ToString::to_string);
            Service { description: text(new), was: text(old), ..service("described", name) }
        }
    }
}
