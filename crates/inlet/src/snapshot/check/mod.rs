//! Whether all is well with the host, the instance, the rules and the sockets: what is amiss, why it matters, and the
//! command that mends it. Nothing is changed, and what cannot be looked at is said.

mod answers;
mod codes;
mod devices;
mod freebind;
mod groups;
mod hook;
mod host;
mod nginx;
mod own;
mod routes;
mod rules;
mod selectors;
mod services;
mod shadowed;
mod sockets;
mod tracked;
mod users;

pub use self::codes::CODES;

use std::path::Path;

use inlet_core::config::{Parsed, Routes, Skipped};
use inlet_core::{Plan, Ruleset};

use crate::described::{Reported, reported_now};
use crate::error::{Error, Result, StateError, quoted_path};
use crate::route::{Model, RouteTable};
use crate::snapshot::{AnswersState, Receivers, Snapshot};
use crate::state::Location;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something may not work as it is meant to.
    Warning,
    /// Something to know.
    Note,
}

/// Something that is amiss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A name for programs, which stays: `prefix-not-local`.
    pub code: &'static str,
    /// What is amiss.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// The command that mends it, or what to do where no command can.
    pub fix: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    /// What is amiss, what matters most first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, with the reason.
    pub unchecked: Vec<String>,
}

/// The instance of a location, as far as it can be opened.
#[derive(Debug)]
pub struct Checker {
    location: Location,
    snapshot: Option<Snapshot>,
    trouble: Option<Error>,
}

/// What the parts of a check look at.
pub(crate) struct Subject<'a> {
    location: &'a Location,
    ruleset: &'a Ruleset,
    /// Whether the ruleset is one of a file rather than the one in force.
    in_file: bool,
    /// Whether Inlet keeps the local routes, or would once the file is in force.
    keeps_routes: bool,
    receivers: &'a Receivers,
    routes: &'a RouteTable,
    model: &'a Model,
    /// Whether answers over UDP leave from where they were asked, or would once the file is in force.
    as_asked: bool,
    /// Whether answers to clients of the host pass, or would once the file is in force.
    passes_clients: bool,
    /// Sockets that descriptions in force mean and that no service has.
    waiting: &'a [Reported],
}

/// How many findings of one kind are told one by one.
const LISTED: usize = 10;

impl Checker {
    /// Opens what there is.
    pub fn new(location: Location) -> Self {
        let (snapshot, trouble) = match Snapshot::open_if_up(&location) {
            Ok(opened) => (opened, None),
            Err(error) => (None, Some(error)),
        };
        Self { location, snapshot, trouble }
    }

    /// Where the instance is or would be.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The instance, if there is one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Checks the host and the instance, with the rules in force or, before they are in force, others.
    ///
    /// # Errors
    /// Those of listing sockets and routes.
    pub fn check(&self, proposed: Option<&Parsed>) -> Result<Checkup> {
        let mut found = Checkup::default();
        host::check(&self.location, &mut found);
        if let Some(snapshot) = &self.snapshot {
            hook::check(snapshot, &mut found)?;
            own::check(snapshot, &mut found)?;
            answers::behind(snapshot, &mut found)?;
        }
        let nothing = Ruleset::empty();
        let ruleset = match (proposed, &self.snapshot, &self.trouble) {
            (Some(file), ..) => &file.ruleset,
            (None, Some(snapshot), _) => snapshot.ruleset(),
            (None, None, Some(trouble)) => {
                found.instance(trouble);
                &nothing
            }
            (None, None, None) => {
                let error = Error::State(StateError::NotUp { netns: self.location.netns().label().to_owned() });
                found.add_error(
                    "not-up",
                    &error,
                    "no rule is in force here, so packets go where they go without Inlet",
                );
                &nothing
            }
        };
        let now = match &self.snapshot {
            Some(snapshot) => snapshot.receivers()?,
            None => Receivers::of(self.location.netns(), None)?,
        };
        // Once a file is applied its services have what their descriptions mean.
        let receivers = match proposed {
            Some(file) => now.after(self.snapshot().map_or(&nothing, Snapshot::ruleset), &file.ruleset),
            None => now,
        };
        let waiting = match (&self.snapshot, proposed) {
            (Some(snapshot), None) => waiting(snapshot, &receivers, &mut found)?,
            _ => Vec::new(),
        };
        let routes = RouteTable::of(self.location.netns())?;
        let answers = match proposed {
            Some(_) => None,
            None => self.snapshot().map(Snapshot::answers).transpose()?,
        };
        let subject = Subject {
            as_asked: answers.as_ref().is_none_or(|it| matches!(it, AnswersState::Asked { .. })),
            passes_clients: match (proposed, self.snapshot()) {
                (None, Some(snapshot)) => snapshot.passes_clients()?,
                _ => true,
            },
            location: &self.location,
            ruleset,
            in_file: proposed.is_some(),
            keeps_routes: match proposed {
                Some(file) => file.routes == Routes::Manage,
                None => self.snapshot().is_some_and(Snapshot::keeps_routes),
            },
            receivers: &receivers,
            routes: &routes,
            model: &routes.model()?,
            waiting: &waiting,
        };
        proposed.iter().flat_map(|file| &file.skipped).for_each(|skipped| found.skipped(skipped));
        routes::check(&subject, &mut found)?;
        rules::check(&subject, &mut found)?;
        services::check(&subject, &mut found);
        devices::check(&subject, &mut found)?;
        sockets::check(&subject, &mut found)?;
        answers::check(&subject, answers.as_ref(), &mut found);
        freebind::check(&subject, &mut found);
        nginx::check(&subject, &mut found);
        users::check(&subject, self.location.netns(), &mut found);
        debug_assert!(found.findings.iter().all(|it| CODES.contains(&it.code)), "{:?}", found.findings);
        found.findings.sort_by_key(|finding| finding.severity);
        Ok(found)
    }

    /// Checks what is in force, and whether that is what a file says. `path` is where the file is, to name it in the fix.
    ///
    /// # Errors
    /// As for [`Checker::check`].
    pub fn check_in_force(&self, file: &Parsed, path: &Path) -> Result<Checkup> {
        let mut found = self.check(None)?;
        file.skipped.iter().for_each(|skipped| found.skipped(skipped));
        let Some(snapshot) = &self.snapshot else { return Ok(found) };
        let plan = Plan::between(snapshot.ruleset(), &file.ruleset);
        let keeps_routes = file.routes == Routes::Manage;
        if !plan.is_empty() || keeps_routes && !snapshot.keeps_routes() {
            let what = match (plan.rules.len(), plan.services.len()) {
                (0, 0) => "the local routes are not kept, as the file asks for".to_owned(),
                (rules, services) => {
                    format!("another ruleset is in force: rules that differ: {rules}, services: {services}")
                }
            };
            let why = "somebody changed the rules, or the file was not applied";
            let fix = format!("see what differs with: inlet plan {}", quoted_path(path));
            found.add(Severity::Error, "not-in-force", what, why, fix);
            found.findings.sort_by_key(|finding| finding.severity);
        }
        Ok(found)
    }
}

/// Sockets that descriptions mean, that a service can have, and that none has. Asking takes the right to run the
/// programs that find them.
fn waiting(snapshot: &Snapshot, receivers: &Receivers, found: &mut Checkup) -> Result<Vec<Reported>> {
    let mut waiting = match reported_now(&snapshot.files.described(), snapshot.location().netns()) {
        Err(Error::Os { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            found.unchecked.push("whether sockets wait to be adopted: that takes root".to_owned());
            Vec::new()
        }
        wanted => wanted?,
    };
    let can_be_had =
        |wanted: &Reported| receivers.sockets.get(wanted.cookie).is_some_and(|it| it.receiving && !it.mptcp);
    waiting.retain(|wanted| can_be_had(wanted) && receivers.owner(snapshot.ruleset(), wanted.cookie).is_none());
    Ok(waiting)
}

impl Checkup {
    /// Whether something does not work.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn add(&mut self, severity: Severity, code: &'static str, what: String, why: &str, fix: impl Into<String>) {
        self.findings.push(Finding { severity, code, what, why: why.to_owned(), fix: fix.into() });
    }

    /// What a list is read without.
    fn skipped(&mut self, skipped: &Skipped) {
        let why = "rules with the set do not match what these lines stand for";
        let fix = "correct these lines; without `lenient = true` of the set they are errors";
        self.add(Severity::Note, "lines-skipped", skipped.to_string(), why, fix);
    }

    /// Adds a finding that an error tells whole.
    fn add_error(&mut self, code: &'static str, error: &Error, why: &str) {
        let fix = error.remedy().unwrap_or_default().into_owned();
        self.add(Severity::Error, code, error.to_string(), why, fix);
    }

    /// Adds a finding for each of the first items, and one for how many more there are.
    fn add_each<T>(&mut self, items: &[T], of: impl Fn(&T) -> Finding) {
        self.findings.extend(items.iter().take(LISTED).map(&of));
        if let Some(first) = items.get(LISTED) {
            let what = format!("{} more of the kind {}", items.len() - LISTED, of(first).code);
            self.findings.push(Finding { what, ..of(first) });
        }
    }

    /// What is amiss with an instance that cannot be read.
    fn instance(&mut self, trouble: &Error) {
        match trouble {
            Error::Os { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                self.unchecked.push(format!("the instance, its rules and services: {trouble}; run it as root"));
            }
            Error::State(StateError::NoBpfFs(_)) => {}
            _ => {
                let why = "no command can read the rules, and none can change them";
                self.add_error("instance", trouble, why);
            }
        }
    }
}
