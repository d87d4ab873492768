//! An instance and its services.

use std::path::PathBuf;
use std::time::Duration;

use anstyle::Style;
use inlet::rules::{PortRange, Spread};
use inlet::{AnswersState, Counters, FlowTable, Hook, Location, Pending, ServiceState};
use serde::Serialize;

use super::answers::{self, Answers};
use super::described::{self, Described, Refused};
use super::palette::{Palette, paint};
use super::socket::{self, Socket};
use super::table::Table;
use super::{Screen, counted, draining, grouped, hook};
use crate::failure::Failure;

/// Where an instance is, in a form that outlives it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    netns: String,
    cookie: u64,
    directory: PathBuf,
}

/// All that `inlet status` shows.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) place: Place,
    pub(crate) generation: u64,
    /// The programs on the hook.
    pub(crate) hook: Hook,
    pub(crate) pending: Option<Pending>,
    pub(crate) rules: usize,
    /// Whether Inlet keeps the local routes of the rules.
    pub(crate) keeps_routes: bool,
    pub(crate) max_sockets: u32,
    pub(crate) passed: u64,
    pub(crate) refused: u64,
    /// Where answers over UDP leave from.
    pub(crate) answers: AnswersState,
    /// The table of flows that stay on their sockets, where any does.
    pub(crate) stays: Option<FlowTable>,
    /// How many answers to clients of the host passed rules, where any could take them.
    pub(crate) client_answers: Option<u64>,
    /// The ports for own binds and how many are taken, where any service has own binds.
    pub(crate) own_ports: Option<(PortRange, u32)>,
    /// Whether somebody adopts described UDP sockets.
    pub(crate) is_watched: bool,
    pub(crate) services: Vec<ServiceState>,
}

impl Place {
    pub(crate) fn of(location: &Location) -> Self {
        let netns = location.netns();
        Self { netns: netns.label().to_owned(), cookie: netns.cookie(), directory: location.dir() }
    }
}

#[derive(Serialize)]
struct Began<'a> {
    instance: &'a Place,
    generation: u64,
    already: bool,
}

pub(crate) fn up(screen: &mut Screen<'_>, place: &Place, generation: u64, made: bool) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&Began { instance: place, generation, already: !made });
    }
    let is_up = if made { "is up" } else { "is already up" };
    Ok(writeln!(screen.out, "inlet {is_up} in {}; its state is in {}", place.netns, place.directory.display())?)
}

#[derive(Serialize)]
struct Ended<'a> {
    instance: &'a Place,
}

pub(crate) fn down(screen: &mut Screen<'_>, place: &Place) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&Ended { instance: place });
    }
    Ok(writeln!(screen.out, "inlet is down in {}", place.netns)?)
}

#[derive(Serialize)]
struct Status<'a> {
    instance: &'a Place,
    generation: u64,
    steering: Option<bool>,
    hook: Option<Vec<hook::Program>>,
    confirm: Option<Confirm>,
    rules: usize,
    keeps_routes: bool,
    sockets: usize,
    max_sockets: u32,
    counters: Plain,
    answers: Answers<'a>,
    stays: Option<answers::Table>,
    client_answers: Option<u64>,
    own_ports: Option<OwnPorts>,
    watched: bool,
    services: Vec<Service<'a>>,
}

/// A ruleset that waits for confirmation.
#[derive(Serialize)]
struct Confirm {
    seconds_left: u64,
    waiting: bool,
}

/// The ports of programs with own binds.
#[derive(Serialize)]
struct OwnPorts {
    range: String,
    taken: u32,
}

/// What rules without a service counted.
#[derive(Serialize)]
struct Plain {
    passed: u64,
    refused: u64,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    on_missing: &'static str,
    spread: &'static str,
    answers: Option<&'static str>,
    sticky: u16,
    rules: u64,
    sockets: Vec<Socket>,
    drained: Vec<draining::OfService>,
    counters: Counted,
    described: Option<Described>,
    refused: Option<Refused<'a>>,
}

#[derive(Serialize)]
struct Counted {
    steered: u64,
    missed: u64,
    failed: u64,
    refused: u64,
}

impl<'a> From<&'a ServiceState> for Service<'a> {
    fn from(service: &'a ServiceState) -> Self {
        let Counters { steered, missed, failed, refused } = service.counters;
        Self {
            name: service.name.as_str(),
            on_missing: service.on_missing.as_str(),
            spread: service.spread.as_str(),
            answers: service.answers.map(|answers| answers.as_str()),
            sticky: service.sticky.seconds(),
            rules: service.rules,
            sockets: service.sockets.iter().map(Socket::from).collect(),
            drained: service.drained.iter().map(draining::OfService::from).collect(),
            counters: Counted { steered, missed, failed, refused },
            described: Described::of(service),
            refused: service.refusal.as_ref().map(Refused::from),
        }
    }
}

pub(crate) fn status(screen: &mut Screen<'_>, overview: &Overview) -> Result<(), Failure> {
    let Overview { place, generation, hook, pending, rules, keeps_routes, max_sockets, .. } = overview;
    let Overview { passed, refused, answers, stays, client_answers, own_ports, is_watched, services, .. } = overview;
    let sockets = services.iter().map(|service| service.sockets.len()).sum();
    if screen.json {
        return screen.document(&Status {
            instance: place,
            generation: *generation,
            steering: hook::is_steering(hook),
            hook: hook::programs(hook),
            confirm: pending.map(|it| Confirm { seconds_left: it.left.map_or(0, seconds), waiting: it.waiting }),
            rules: *rules,
            keeps_routes: *keeps_routes,
            sockets,
            max_sockets: *max_sockets,
            counters: Plain { passed: *passed, refused: *refused },
            answers: Answers::from(answers),
            stays: stays.as_ref().map(answers::Table::from),
            client_answers: *client_answers,
            own_ports: own_ports.map(|(range, taken)| OwnPorts { range: range.to_string(), taken }),
            watched: *is_watched,
            services: services.iter().map(Service::from).collect(),
        });
    }
    let mut table = Table::default();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("instance", format!("{} (cookie {})", place.netns, place.cookie));
    row("directory", place.directory.display().to_string());
    row("generation", generation.to_string());
    row("hook", hook::line(hook));
    if let Some(pending) = pending {
        row("confirm", confirm(pending));
    }
    row("rules", grouped(*rules as u64));
    row("routes", if *keeps_routes { "local routes kept by inlet" } else { "not kept by inlet" }.to_owned());
    row("services", grouped(services.len() as u64));
    row("sockets", format!("{} of at most {}", grouped(sockets as u64), grouped((*max_sockets).into())));
    row("by rule", format!("{} passed, {} refused", grouped(*passed), grouped(*refused)));
    for (at, line) in answers::lines(answers).into_iter().enumerate() {
        row(if at == 0 { "answers" } else { "" }, line);
    }
    if let Some(stays) = stays {
        row("sticky", answers::filled(stays));
    }
    if let Some(passed) = client_answers {
        row("clients", format!("{} answers to clients of this host passed", grouped(*passed)));
    }
    if let Some((range, taken)) = own_ports {
        row(
            "own binds",
            format!("{} of {} ports taken ({range})", grouped((*taken).into()), grouped(range.width().into())),
        );
    }
    table.write(screen, 0)?;
    services.iter().try_for_each(|service| paragraph(screen, service, *is_watched))
}

/// What becomes of a ruleset that is not confirmed.
fn confirm(pending: &Pending) -> String {
    match (pending.left, pending.waiting) {
        (Some(left), true) => {
            format!("goes back in {} unless confirmed with: inlet confirm", counted(seconds(left) as usize, "second"))
        }
        (Some(left), false) => {
            let left = counted(seconds(left) as usize, "second");
            format!(
                "not confirmed, and no process waits: after {left} the next change goes back first; run now: inlet confirm, or inlet rollback"
            )
        }
        (None, _) => "not confirmed in time: the next change goes back first; run now: inlet rollback".to_owned(),
    }
}

/// Whole seconds, a part of one counting as one.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

fn paragraph(screen: &mut Screen<'_>, service: &ServiceState, is_watched: bool) -> Result<(), Failure> {
    let rules = counted(usize::try_from(service.rules).unwrap_or(usize::MAX), "rule");
    writeln!(screen.out)?;
    screen.title(&format!("service {}", service.name), "")?;
    let spread = if service.spread == Spread::Group { ", spread by the SO_REUSEPORT group" } else { "" };
    let sticky = if service.sticky.is_on() { format!(", sticky: {} s", service.sticky) } else { String::new() };
    let answers = service.answers.map_or_else(String::new, |answers| format!(", answers: {answers}"));
    writeln!(screen.out, "  {rules}, on missing: {}{spread}{answers}{sticky}", service.on_missing)?;
    screen.parts("packets:", &packets(service.counters, screen.palette))?;
    described::write(screen, service, is_watched)?;
    if service.sockets.iter().all(|socket| !socket.receiving) {
        let none = if service.sockets.is_empty() { "no live socket" } else { "no socket that receives" };
        writeln!(screen.out, "  {}", paint(screen.palette.bad, none))?;
    }
    let mut table = Table::default();
    service.sockets.iter().for_each(|socket| table.row(socket::words(socket)));
    table.write(screen, 2)?;
    socket::silences(screen, &service.sockets)?;
    draining::write(screen, &service.drained)
}

/// The counters; what is wrong when it is not 0 is painted then.
fn packets(counters: Counters, palette: Palette) -> [(Style, String); 4] {
    let Counters { steered, missed, failed, refused } = counters;
    let bad = |count: u64, name: &str| {
        let style = if count > 0 { palette.bad } else { Style::new() };
        (style, format!("{} {name}", grouped(count)))
    };
    let steered = (Style::new(), format!("{} steered", grouped(steered)));
    [steered, bad(missed, "missed"), bad(refused, "refused"), bad(failed, "failed")]
}

pub(crate) fn services(screen: &mut Screen<'_>, services: &[ServiceState]) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&services.iter().map(Service::from).collect::<Vec<_>>());
    }
    let mut table = Table::headed(&["SERVICE", "ON-MISSING", "ANSWERS", "RULES", "SOCKETS", "STEERED", "MISSED"]);
    for service in services {
        table.row([
            service.name.to_string(),
            service.on_missing.to_string(),
            service.answers.map_or("-", |answers| answers.as_str()).to_owned(),
            grouped(service.rules),
            grouped(service.sockets.len() as u64),
            grouped(service.counters.steered),
            grouped(service.counters.missed),
        ]);
    }
    table.write(screen, 0)
}
