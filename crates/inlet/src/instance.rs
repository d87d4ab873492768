//! An instance open for writing: its beginning, its end, and the small changes.

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use inlet_core::{Description, Listen, OnMissing, Rule, Ruleset, Selector, ServiceId, ServiceName, Target, Verdict};

use crate::commit::Committed;
use crate::error::{Error, Result};
use crate::kernel::{Capability, capability, raw};
use crate::program::{Beside, Generation};
use crate::state::{Access, Exclusive, Files, Location, Maps, Readers, generations, open_link, remove_all};
use crate::{fault, route};

/// How an instance is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpOptions {
    /// A group that may read the instance: list its rules and see its counters.
    pub group: Option<String>,
    /// How many sockets fit, over all services.
    pub max_sockets: u32,
}

impl UpOptions {
    /// The most sockets that an instance can be made for.
    pub const MAX_SOCKETS: u32 = 1 << 20;
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { group: None, max_sockets: 16384 }
    }
}

/// What is asked of a service; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceRequest {
    /// What happens without a live socket.
    pub on_missing: Option<OnMissing>,
    /// Which sockets it has; the inner `None` leaves them to be registered by hand.
    pub description: Option<Option<Description>>,
    /// Whether the unit, control group and user of the description need not be there yet.
    pub later: bool,
}

/// An instance open for writing. Nobody else writes or reads it while this is held.
#[derive(Debug)]
pub struct Instance {
    pub(crate) location: Location,
    _lock: Exclusive,
    pub(crate) files: Files,
    pub(crate) link: OwnedFd,
    pub(crate) generation: u64,
    pub(crate) maps: Maps,
    ruleset: OnceCell<Ruleset>,
    /// Whether Inlet is to keep the local routes from the next commit on; `None`: as before.
    pub(crate) routes_next: Option<bool>,
    /// Whether an earlier commit left something to be done after its commit point.
    pub(crate) unfinished: bool,
    /// Whether changes are refused that lock out whoever makes them.
    pub(crate) is_guarded: bool,
    /// The generation that was not confirmed in time, when opening went back from it.
    pub(crate) unconfirmed: Option<u64>,
}

impl Instance {
    /// Makes the instance of a namespace, with no rules yet, and opens it.
    ///
    /// # Errors
    /// [`Error::AlreadyUp`] when there is one; what an interrupted commit left in it is removed even so.
    pub fn up(location: Location, options: &UpOptions) -> Result<Self> {
        if !(1..=UpOptions::MAX_SOCKETS).contains(&options.max_sockets) {
            return Err(Error::MaxSockets { given: options.max_sockets, max: UpOptions::MAX_SOCKETS });
        }
        let readers = Readers::named(options.group.as_deref())?;
        location.check_bpffs()?;
        capability::require("inlet up", &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon])?;
        let _root = lock_root(&location)?;
        sweep(&location)?;
        if location.dir().exists() {
            let netns = location.netns().label().to_owned();
            Self::open(location)?;
            return Err(Error::AlreadyUp { netns });
        }
        let made = Files(location.being_made());
        if let Err(error) = make(&location, &made, options.max_sockets, readers) {
            remove_all(&made.0)?;
            return Err(error);
        }
        fault::point("up:made");
        // The commit point: from here on the instance is there.
        std::fs::rename(&made.0, location.dir()).map_err(Error::at("publish", &location.dir()))?;
        fault::point("up:published");
        Self::open(location)
    }

    /// Removes the instance of a namespace: its rules, its sockets' places, its counters. Programs keep their sockets.
    ///
    /// # Errors
    /// [`Error::NotUp`] when there is none.
    pub fn down(location: &Location) -> Result<()> {
        location.check_bpffs()?;
        capability::require("inlet down", &[Capability::NetAdmin])?;
        let _root = lock_root(location)?;
        let swept = sweep(location)?;
        let Some(_lock) = Exclusive::on(&location.dir())? else {
            return if swept { Ok(()) } else { Err(location.not_up()) };
        };
        // The commit point: the instance is not there any more. Until its link is gone it goes on steering.
        std::fs::rename(location.dir(), location.being_removed()).map_err(Error::at("withdraw", &location.dir()))?;
        fault::point("down:withdrawn");
        remove_instance(location, &location.being_removed())
    }

    /// Opens the instance of a namespace, and finishes or removes what an interrupted commit left. A ruleset that was not
    /// confirmed in time makes place for the one before: see [`Instance::went_back_from`].
    ///
    /// # Errors
    /// [`Error::NotUp`], [`Error::NewerState`], [`Error::Detached`], [`Error::ForeignProgram`], [`Error::Untrusted`], and
    /// errors of the kernel.
    pub fn open(location: Location) -> Result<Self> {
        location.check_bpffs()?;
        location.check_root()?;
        let lock = Exclusive::on(&location.dir())?.ok_or_else(|| location.not_up())?;
        capability::require("changing the instance", &[Capability::Bpf, Capability::NetAdmin])?;
        let files = Files(location.dir());
        let maps = Maps::open(&files, Access::Write)?;
        let link = open_link(&files)?;
        let found = generations(&files, link.as_fd())?;
        let unfinished = !found.left.is_empty();
        let (generation, ruleset) = (found.in_force, OnceCell::new());
        let mut instance = Self {
            location,
            _lock: lock,
            files,
            link,
            generation,
            maps,
            ruleset,
            routes_next: None,
            unfinished,
            is_guarded: false,
            unconfirmed: None,
        };
        instance.finish_commit()?;
        instance.go_back_when_over()?;
        Ok(instance)
    }

    /// From now on refuses changes that take packets from SSH, or from the listener by which this session came.
    pub fn refuse_lockouts(&mut self) {
        self.is_guarded = true;
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The ruleset in force, read from the image of its generation.
    ///
    /// # Errors
    /// Those of reading the image.
    pub fn ruleset(&self) -> Result<&Ruleset> {
        if self.ruleset.get().is_none() {
            let image = self.files.generation(self.generation).image();
            // Only this thread can have filled the cell meanwhile, and it did not.
            let _ = self.ruleset.set(crate::state::read_ruleset(&image)?);
        }
        Ok(self.ruleset.get().unwrap_or_else(|| unreachable!("the cell was filled above")))
    }

    /// The ruleset in force, when nothing more is to be done with the instance.
    ///
    /// # Errors
    /// Those of [`Instance::ruleset`].
    pub fn into_ruleset(self) -> Result<Ruleset> {
        self.ruleset()?;
        Ok(self.ruleset.into_inner().unwrap_or_default())
    }

    /// Remembers the ruleset that a commit has put in force, and gives the one before.
    pub(crate) fn in_force(&mut self, ruleset: Ruleset) -> Ruleset {
        std::mem::replace(&mut self.ruleset, OnceCell::from(ruleset)).into_inner().unwrap_or_default()
    }

    /// The number of the service of this name.
    ///
    /// # Errors
    /// [`Error::UnknownService`].
    pub fn id_of(&self, name: &str) -> Result<ServiceId> {
        self.service(name)
    }

    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Result<ServiceId> {
        self.ruleset()?.services().id(name).ok_or_else(|| Error::UnknownService(name.to_owned()))
    }

    /// Adds the rules that `selector` stands for, or replaces the verdicts of those with the same match: their former
    /// verdicts are in the plan.
    ///
    /// # Errors
    /// [`Error::Build`] when one ties with another rule, [`Error::UnknownInterface`].
    pub fn bind(&mut self, target: &Target, selector: &Selector) -> Result<Committed> {
        self.edit(|builder| {
            let verdict = target.verdict(builder)?;
            for matching in selector.matches(builder)? {
                builder.remove(&matching);
                builder.push(&Rule { matching, verdict })?;
            }
            Ok(())
        })
    }

    /// [`Instance::bind`] to the service that is named after an address and has the sockets there.
    ///
    /// # Errors
    /// As for [`Instance::bind`], and those of [`Instance::set_service`].
    pub fn bind_to(&mut self, listen: Listen, selector: &Selector) -> Result<Committed> {
        let name: ServiceName = listen.to_string().parse()?;
        self.edit(|builder| {
            let id = builder.service(&name)?;
            if builder.services().get(id).is_some_and(|service| service.description.is_none()) {
                builder.set_description(id, Some(Description::new([listen])?));
            }
            for matching in selector.matches(builder)? {
                builder.remove(&matching);
                builder.push(&Rule { matching, verdict: Verdict::Service(id) })?;
            }
            Ok(())
        })
    }

    /// Removes the rules that `selector` stands for, all or none.
    ///
    /// # Errors
    /// [`Error::NoRule`] when one of them is not there.
    pub fn unbind(&mut self, selector: &Selector) -> Result<Committed> {
        self.edit(|builder| {
            let all = selector.matches(builder)?;
            let missing = all.iter().any(|matching| builder.remove(matching).is_none());
            if missing { Err(Error::NoRule(selector.to_string())) } else { Ok(()) }
        })
    }

    /// Sets what is asked of a service, which is made when there is none of this name. Sockets that its description means
    /// are adopted, those that exist and those that come.
    ///
    /// # Errors
    /// [`Error::Service`] when no number is left, [`Error::Build`] when another description could claim the same socket, and
    /// what is said of a description that cannot be looked up: [`Error::NoUnit`], [`Error::NoCgroup`],
    /// [`Error::UnknownUser`], [`Error::NoCgroups`].
    pub fn set_service(&mut self, name: &ServiceName, request: ServiceRequest) -> Result<Committed> {
        if let Some(Some(description)) = request.description.as_ref().filter(|_| !request.later) {
            crate::described::check_there(description)?;
        }
        self.edit(|builder| {
            let id = builder.service(name)?;
            if let Some(on_missing) = request.on_missing {
                builder.set_on_missing(id, on_missing);
            }
            if let Some(description) = request.description {
                builder.set_description(id, description);
            }
            Ok(())
        })
    }

    /// Removes a service that no rule names, and lets its sockets go.
    ///
    /// # Errors
    /// [`Error::UnknownService`], and [`Error::Build`] while rules name it.
    pub fn remove_service(&mut self, name: &str) -> Result<Committed> {
        let id = self.service(name)?;
        self.edit(|builder| Ok(builder.remove_service(id).map(drop)?))
    }
}

/// Takes the lock under which instances are made and removed.
fn lock_root(location: &Location) -> Result<Exclusive> {
    let root = location.root();
    if let Err(cause) = std::fs::DirBuilder::new().mode(0o755).create(&root)
        && cause.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Error::at("make", &root)(cause));
    }
    fault::point("up:root");
    let lock = Exclusive::on(&root)?
        .ok_or_else(|| Error::at("open", &root)(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    location.check_root()?;
    // Each instance has a mode of its own; who may read one must be able to get there.
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::at("change the mode of", &root))?;
    Ok(lock)
}

/// Removes instances that were being made or removed when their process ended.
fn sweep(location: &Location) -> Result<bool> {
    let (made, removed) = (location.being_made(), location.being_removed());
    let found = made.exists() || removed.exists();
    remove_instance(location, &made)?;
    remove_instance(location, &removed)?;
    Ok(found)
}

/// Takes the local routes of an instance that is not published away, detaches its link, so that nothing is steered any
/// more, and removes its pins. Without the routes first, what they made local would for a moment reach other sockets.
fn remove_instance(location: &Location, dir: &Path) -> Result<()> {
    let files = Files(dir.to_owned());
    let generations = if dir.exists() { files.generations()? } else { Vec::new() };
    if generations.into_iter().any(|number| files.generation(number).keeps_routes()) {
        route::remove_all(location.netns())?;
    }
    if files.link().exists() {
        // A link whose namespace died is detached already; its pin goes with the others.
        let _ = open_link(&files)
            .and_then(|link| raw::link_detach(link.as_fd()).map_err(Error::at("detach", &files.link())));
        fault::point("down:detached");
    }
    remove_all(dir)
}

fn make(location: &Location, files: &Files, max_sockets: u32, readers: Readers) -> Result<()> {
    std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
    readers.admit_to_dir(&files.0)?;
    fault::point("up:directory");
    let maps = Maps::create(files, max_sockets, readers)?;
    fault::point("up:maps");
    let first = Generation::load(&Ruleset::empty(), &maps)?;
    first.pin(&Beside::default(), &files.generation(1), readers)?;
    fault::point("up:generation");
    let link = raw::link_create(first.program.as_fd(), location.netns().as_fd()).map_err(no_hook)?;
    fault::point("up:attached");
    raw::pin(link.as_fd(), &files.link()).map_err(Error::at("pin", &files.link()))
}

/// A kernel without the hook does not know the type of the attachment.
fn no_hook(cause: std::io::Error) -> Error {
    match cause.raw_os_error() {
        Some(libc::EINVAL) => Error::Kernel { what: "sk_lookup hook", since: "5.9", source: cause },
        _ => Error::os("attach to", "the network namespace")(cause),
    }
}
