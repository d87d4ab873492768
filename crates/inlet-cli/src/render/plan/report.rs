//! What differs between two rulesets, as programs get it.

use inlet::rules::config::rule_json;
use inlet::rules::{Answers, Change, Description, Grant, Rule, Ruleset, ServiceChange, ServiceName};
use serde::{Serialize, Serializer};

use super::Difference;

#[derive(Serialize)]
struct Report<A, R, C> {
    added: Vec<A>,
    removed: Vec<R>,
    replaced: Vec<C>,
    services: Vec<Service>,
    /// Grants that are added, and that are removed, in words.
    granted: Vec<String>,
    revoked: Vec<String>,
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
    spread: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    was: Option<String>,
}

impl<'a> Difference<'a> {
    /// What differs, as programs get it.
    pub(super) fn report(self) -> impl Serialize + 'a {
        let Self { plan, before, after } = self;
        let (mut added, mut removed, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        for change in &plan.rules {
            match change {
                Change::Added(rule) => added.push(Reported(after, rule)),
                Change::Removed(rule) => removed.push(Reported(before, rule)),
                Change::Replaced { new, previous: old } => {
                    let was = Was { verdict: old.as_str(), service: before.service_name(*old).map(str::to_owned) };
                    replaced.push(Replaced { rule: Reported(after, new), was });
                }
            }
        }
        let services = plan.services.iter().map(service).collect();
        let texts = |grants: &[Grant]| grants.iter().map(ToString::to_string).collect();
        let (granted, revoked) = (texts(&plan.granted), texts(&plan.revoked));
        Report { added, removed, replaced, services, granted, revoked }
    }
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
        spread: None,
        answers: None,
        sticky: None,
        description: None,
        was: None,
    };
    match change {
        ServiceChange::Added(name, policy) => Service { on_missing: Some(policy.as_str()), ..service("added", name) },
        ServiceChange::Removed(name) => service("removed", name),
        ServiceChange::OnMissing { name, previous: old, new } => {
            let was = Some(old.to_string());
            Service { on_missing: Some(new.as_str()), was, ..service("replaced", name) }
        }
        ServiceChange::Spread { name, previous, new } => {
            Service { spread: Some(new.as_str()), was: Some(previous.to_string()), ..service("spread", name) }
        }
        ServiceChange::Answers { name, previous, new } => {
            let [was, answers] = [previous, new].map(|answers| answers.map(Answers::as_str));
            Service { answers, was: was.map(str::to_owned), ..service("answers", name) }
        }
        ServiceChange::Sticky { name, previous, new } => {
            let was = previous.is_on().then(|| previous.to_string());
            Service { sticky: Some(new.seconds()), was, ..service("sticky", name) }
        }
        ServiceChange::Described { name, previous: old, new } => {
            let text = |description: &Option<Description>| description.as_ref().map(ToString::to_string);
            Service { description: text(new), was: text(old), ..service("described", name) }
        }
    }
}
