//! The reader: an instance open for reading, and all that can be asked of it: what is in force, who receives, what was
//! counted, what a packet meets, and whether all is well. It knows no writer.

mod answers;
mod change;
mod check;
mod drained;
mod explain;
mod listeners;
pub(crate) mod lockout;
mod losses;
mod meant;
mod open;
mod proposal;
mod receivers;
mod ssh;
pub(crate) mod warning;

use inlet_core::{
    Answers, Description, Match, OnMissing, PortRange, Rule, Ruleset, Service, ServiceId, ServiceName, Spread, Sticky,
};

pub use self::answers::AnswersState;
pub use self::change::{Edit, ServiceRequest};
pub use self::check::{CODES, Checker, Checkup, Finding, Severity};
pub use self::drained::Drained;
pub use self::explain::{
    Agreement, Answer, AnswerFrom, Explainer, Explanation, FlowStays, LiveProgram, Outcome, Reply, StaysOn, Unasked,
};
pub use self::listeners::{Listener, Listeners, ServiceTraffic};
pub use self::proposal::{Planner, Proposal};
pub use self::warning::Warning;

pub(crate) use self::change::resolve_interfaces;
pub(crate) use self::losses::Losses;
pub(crate) use self::receivers::Receivers;

use crate::described::{self, LastRefusal, NotFound};
use crate::error::{Error, Result, StateError, words};
use crate::socket::SocketState;
use crate::state::{
    Access, Counters, Files, Hook, Location, Maps, Pending, Shared, Steering, generation_in_force, is_there, open_map,
    pending, read_ruleset,
};

/// An instance open for reading. Nobody writes it while this is held.
#[derive(Debug)]
pub struct Snapshot {
    location: Location,
    _lock: Shared,
    files: Files,
    generation: u64,
    keeps_routes: bool,
    maps: Maps,
    ruleset: Ruleset,
}

/// A service as it is now.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Its number.
    pub id: ServiceId,
    /// Its name.
    pub name: ServiceName,
    /// What happens without a live socket.
    pub on_missing: OnMissing,
    /// Who chooses among its live sockets.
    pub spread: Spread,
    /// Where its answers over UDP leave from; `None`: as asked where the host can do that.
    pub answers: Option<Answers>,
    /// For how long its flows over UDP stay on their sockets.
    pub sticky: Sticky,
    /// How many rules name it.
    pub rules: u64,
    /// Its live sockets.
    pub sockets: Vec<SocketState>,
    /// Those that are being drained: they get nothing new.
    pub drained: Vec<Drained>,
    /// What was counted.
    pub counters: Counters,
    /// Which sockets it has, when they are found by that.
    pub description: Option<Description>,
    /// The last listener that it wanted and did not get.
    pub refusal: Option<LastRefusal>,
    /// Why its description finds nothing, whatever sockets there are.
    pub not_found: Option<NotFound>,
}

/// How a source is kept out that a more specific rule lets in again.
fn reopened_fix(ruleset: &Ruleset, by: &Rule, refusing: &Rule) -> String {
    let Match { source, iface, mark, .. } = refusing.matching;
    let matching = Match { source, iface, mark, ..by.matching };
    format!("inlet bind --refuse {} (or drop the source in the firewall)", words(ruleset, &matching))
}

impl Snapshot {
    /// Opens the instance of a namespace.
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`], [`crate::StateError::Newer`], [`crate::StateError::Interrupted`], and errors of
    /// the kernel.
    pub fn open(location: Location) -> Result<Self> {
        location.check_bpffs()?;
        Self::open_if_up(&location)?.ok_or_else(|| location.not_up())
    }

    /// The same; `None` when there is no instance, or no bpf filesystem.
    ///
    /// # Errors
    /// Those of [`Snapshot::open`] but [`StateError::NotUp`] and [`StateError::NoBpfFs`].
    pub fn open_if_up(location: &Location) -> Result<Option<Self>> {
        match location.check_bpffs() {
            Err(Error::State(StateError::NoBpfFs(_))) => return Ok(None),
            checked => checked?,
        }
        let Some(lock) = Shared::on(&location.dir())? else { return Ok(None) };
        let files = Files(location.dir());
        let maps = Maps::open(&files, Access::Read)?;
        let generation = generation_in_force(&files)?;
        let ruleset = read_ruleset(&files.generation(generation).image())?;
        let keeps_routes = files.generation(generation).keeps_routes()?;
        Ok(Some(Self { location: location.clone(), _lock: lock, files, generation, keeps_routes, maps, ruleset }))
    }

    /// Where the instance is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The ruleset in force.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The ruleset in force, when nothing more is to be asked.
    pub fn into_ruleset(self) -> Ruleset {
        self.ruleset
    }

    /// Whether Inlet keeps the local routes that the rules need.
    pub fn keeps_routes(&self) -> bool {
        self.keeps_routes
    }

    /// How many sockets fit.
    pub fn max_sockets(&self) -> u32 {
        self.maps.max_sockets()
    }

    /// The ports for own binds, and how many of them are taken; `None` where no service has own binds.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn own_ports(&self) -> Result<Option<(PortRange, u32)>> {
        let own_ports = self.maps.own_ports.as_ref().filter(|_| self.ruleset.services().has_own_binds());
        own_ports.map(|it| Ok((it.range(), it.taken()?))).transpose()
    }

    /// Packets decided by rules without a service: how many passed, how many were refused.
    ///
    /// # Errors
    /// Those of reading the map.
    pub fn plain_counters(&self) -> Result<(u64, u64)> {
        let counters = self.maps.counters(None)?;
        Ok((counters.steered, counters.refused))
    }

    /// All services with their sockets and counters, by name.
    ///
    /// # Errors
    /// Those of reading the maps, and of asking the kernel for its sockets.
    pub fn services(&self) -> Result<Vec<ServiceState>> {
        let receivers = self.receivers()?;
        let drained = self.drained_among(&receivers)?;
        let rules = self.ruleset.rules_per_service();
        let refusals = self.files.described().refusals();
        let refusals = if is_there(&refusals)? { Some(open_map(&refusals, Access::Read)?) } else { None };
        let mut not_found = described::not_found(&self.ruleset);
        let state = |(id, service): (ServiceId, &Service)| {
            Ok(ServiceState {
                id,
                name: service.name.clone(),
                on_missing: service.on_missing,
                spread: service.spread,
                answers: service.answers,
                sticky: service.sticky,
                rules: rules.get(&id).copied().unwrap_or(0),
                sockets: receivers.states(service),
                drained: drained.iter().filter(|it| it.service.as_ref() == Some(&service.name)).cloned().collect(),
                counters: self.maps.counters(Some(id))?,
                description: service.description.clone(),
                refusal: refusals.as_ref().map(|map| described::last_refusal(map, id)).transpose()?.flatten(),
                not_found: not_found.remove(&id),
            })
        };
        self.ruleset.services().iter().map(state).collect()
    }

    /// Whether the ruleset in force waits for confirmation.
    ///
    /// # Errors
    /// Those of reading the map of the deadline.
    pub fn pending(&self) -> Result<Option<Pending>> {
        pending(&self.files.generation(self.generation))
    }

    /// Whether `inlet watch` is running.
    ///
    /// # Errors
    /// Those of asking for its lock.
    pub fn is_watched(&self) -> Result<bool> {
        Ok(Shared::if_free(&self.files.watch())?.is_none())
    }

    /// The programs on the hook of the namespace, and whether Inlet's decides about packets.
    ///
    /// # Errors
    /// Those of looking at the link.
    pub fn hook(&self) -> Result<Hook> {
        Hook::of(self.location.netns(), &self.files, self.generation)
    }

    /// Fails when the program of Inlet does not decide about packets any more, or will not for long.
    ///
    /// # Errors
    /// [`crate::StateError::LinkGone`], and those of [`Snapshot::hook`].
    pub fn require_steering(&self) -> Result<()> {
        let gone = |held| Err(Error::State(StateError::LinkGone { path: self.files.link(), held }));
        match self.hook()?.steering {
            Steering::No => gone(false),
            Steering::Unpinned => gone(true),
            Steering::Yes | Steering::Unknown => Ok(()),
        }
    }

    /// The sockets of the namespace, and which of them services have.
    fn receivers(&self) -> Result<Receivers> {
        Receivers::of(self.location.netns(), Some((&self.maps, &self.ruleset)))
    }
}
