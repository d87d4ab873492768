//! The beginning and the end of an instance: it is made aside and published by a rename, and withdrawn by another one.

use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use inlet_core::{PortRange, Ruleset};

use super::{Instance, takeover};
use crate::answers;
use crate::described::remove_programs;
use crate::error::{Error, KernelError, Result, StateError};
use crate::fault;
use crate::kernel::{Capability, capability, raw};
use crate::program::{Attachments, Generation, SharedMaps, begin, marks};
use crate::route;
use crate::state::{
    Exclusive, Files, Location, Maps, Readers, Root, USUAL_FLOWS, default_own_ports, is_there, open_link, remove_all,
    set_max_flows,
};

/// How an instance is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpOptions {
    /// A group that may read the instance: list its rules and see its counters.
    pub group: Option<String>,
    /// How many sockets fit, over all services.
    pub max_sockets: u32,
    /// How many flows over UDP are kept: of those that are noted for their answers, and of those that stay on sockets.
    pub max_flows: u32,
    /// The ports that programs with own binds get. Nobody else can bind them while a service has own binds.
    pub own_ports: PortRange,
}

impl UpOptions {
    /// The most sockets that an instance can be made for.
    pub const MAX_SOCKETS: u32 = 1 << 20;
    /// The fewest flows that a table can be made for: the kernel keeps free places for each processor.
    pub const MIN_FLOWS: u32 = 1 << 10;
    /// The most flows that a table can be made for. It takes about 150 bytes for each, used or not.
    pub const MAX_FLOWS: u32 = 1 << 22;

    pub(super) fn check_flows(given: u32) -> Result<()> {
        match (Self::MIN_FLOWS..=Self::MAX_FLOWS).contains(&given) {
            true => Ok(()),
            false => Err(StateError::MaxFlows { given, min: Self::MIN_FLOWS, max: Self::MAX_FLOWS }.into()),
        }
    }
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { group: None, max_sockets: 16384, max_flows: USUAL_FLOWS, own_ports: default_own_ports() }
    }
}

impl Instance {
    /// Makes the instance of a namespace, with no rules yet, and opens it.
    ///
    /// # Errors
    /// [`crate::StateError::AlreadyUp`] when there is one; what an interrupted commit left in it is removed even so.
    pub fn up(location: Location, options: &UpOptions) -> Result<Self> {
        let netns = location.netns().label().to_owned();
        match Self::up_or_open(location, options)? {
            (instance, true) => Ok(instance),
            (_, false) => Err(Error::State(StateError::AlreadyUp { netns })),
        }
    }

    /// Makes the instance of a namespace, or opens the one that there is, whatever its options. Also tells whether it was
    /// made.
    ///
    /// # Errors
    /// Those of the kernel, and those of [`Instance::open`].
    pub fn up_or_open(location: Location, options: &UpOptions) -> Result<(Self, bool)> {
        if !(1..=UpOptions::MAX_SOCKETS).contains(&options.max_sockets) {
            return Err(Error::State(StateError::MaxSockets {
                given: options.max_sockets,
                max: UpOptions::MAX_SOCKETS,
            }));
        }
        UpOptions::check_flows(options.max_flows)?;
        let readers = Readers::named(options.group.as_deref())?;
        location.check_bpffs()?;
        capability::require("inlet up", &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon])?;
        let _root = RootLock::take(&location.root())?;
        sweep(&location)?;
        if is_there(&location.dir())? {
            return Ok((Self::open(location)?, false));
        }
        takeover::clear(&location)?;
        let made = Files(location.being_made());
        if let Err(error) = make(&location, &made, options, readers) {
            remove_all(&made.0)?;
            return Err(error);
        }
        fault::point("up:made");
        // The commit point: from here on the instance is there.
        std::fs::rename(&made.0, location.dir()).map_err(Error::at("publish", &location.dir()))?;
        fault::point("up:published");
        let directory = location.dir();
        let opened = Self::open(location);
        let opened = opened.map_err(|cause| StateError::UpUnopened { path: directory, cause: Box::new(cause) })?;
        Ok((opened, true))
    }

    /// Which of the options that an instance was made with are others than these, in words. They stay as they are.
    ///
    /// # Errors
    /// [`StateError::UnknownGroup`], and those of looking at the instance.
    pub fn differs_from(&self, options: &UpOptions) -> Result<Vec<String>> {
        let mut others = Vec::new();
        if self.maps.max_sockets() != options.max_sockets {
            others.push(format!("it has room for {} sockets", self.maps.max_sockets()));
        }
        if let Some(range) = self.own_ports().filter(|range| *range != options.own_ports) {
            others.push(format!("own binds have the ports {range}"));
        }
        let readers = Readers::of(&self.files.0)?;
        if options.group.is_some() && readers != Readers::named(options.group.as_deref())? {
            others.push(format!("{readers} may read it"));
        }
        Ok(others)
    }

    /// Removes the instance of a namespace: its rules, its sockets' places, its counters. Programs keep their sockets.
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`] when there is none.
    pub fn down(location: &Location) -> Result<()> {
        location.check_bpffs()?;
        capability::require("inlet down", &[Capability::NetAdmin])?;
        let _root = RootLock::take(&location.root())?;
        let swept = sweep(location)?;
        let Some(_lock) = Exclusive::on(&location.dir())? else {
            takeover::clear(location)?;
            return if swept { Ok(()) } else { Err(location.not_up()) };
        };
        // The commit point: the instance is not there any more. Until its link is gone it goes on steering.
        std::fs::rename(location.dir(), location.being_removed()).map_err(Error::at("withdraw", &location.dir()))?;
        fault::point("down:withdrawn");
        remove_instance(location, &location.being_removed())?;
        takeover::clear(location)
    }
}

/// The lock under which instances are made and removed. Its directory goes with it.
pub(super) struct RootLock {
    path: PathBuf,
    _held: Exclusive,
}

impl RootLock {
    pub(super) fn take(root: &Root) -> Result<Self> {
        make_dir(root.path(), 0o755)?;
        fault::point("up:root");
        root.check()?;
        let path = root.lock();
        let lock = loop {
            make_dir(&path, 0o700)?;
            if let Some(held) = Exclusive::on(&path)? {
                break Self { path, _held: held };
            }
        };
        // Each instance has a mode of its own; who may read one must be able to get there.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755))
            .map_err(Error::at("change the mode of", root.path()))?;
        Ok(lock)
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // One that stays does no harm. Whoever waits for it sees that it is gone, and makes another one.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Makes a directory that may be there.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::at("make", path)(cause)),
        _ => Ok(()),
    }
}

/// Removes instances that were being made or removed when their process ended.
fn sweep(location: &Location) -> Result<bool> {
    let (made, removed) = (location.being_made(), location.being_removed());
    let found = is_there(&made)? || is_there(&removed)?;
    remove_instance(location, &made)?;
    remove_instance(location, &removed)?;
    Ok(found)
}

/// Takes the local routes of an instance that is not published away, detaches its link, so that nothing is steered any
/// more, and removes its pins. Without the routes first, what they made local would for a moment reach other sockets.
pub(super) fn remove_instance(location: &Location, dir: &Path) -> Result<()> {
    let files = Files(dir.to_owned());
    let generations = if is_there(dir)? { [files.generations()?, files.all_left()?].concat() } else { Vec::new() };
    let keeps = |number: u64| Ok(files.generation(number).keeps_routes()? || files.left(number).keeps_routes()?);
    if generations.into_iter().map(keeps).collect::<Result<Vec<bool>>>()?.contains(&true) {
        route::remove_all(location.netns())?;
    }
    if is_there(&files.link())? {
        // A link whose namespace died is detached already; its pin goes with the others.
        let _ = open_link(&files)
            .and_then(|link| raw::link_detach(link.as_fd()).map_err(Error::at("detach", &files.link())));
        fault::point("down:detached");
    }
    marks::remove(&files.marks())?;
    answers::remove(&files.answers_before(), location.netns())?;
    answers::remove(&files.answers(), location.netns())?;
    remove_programs(&files.described())?;
    remove_all(dir)
}

fn make(location: &Location, files: &Files, options: &UpOptions, readers: Readers) -> Result<()> {
    std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
    readers.admit_to_dir(&files.0)?;
    fault::point("up:directory");
    let maps = Maps::create(files, (options.max_sockets, options.own_ports), readers, None)?;
    if options.max_flows != USUAL_FLOWS {
        set_max_flows(files, options.max_flows, readers)?;
    }
    fault::point("up:maps");
    let first = Generation::load(&Ruleset::empty(), &maps, SharedMaps::default())?;
    begin(&files.generation(1), readers)?;
    first.pin(&Attachments::default(), &files.generation(1), readers)?;
    fault::point("up:generation");
    let link = raw::link_create(first.program.as_fd(), location.netns().as_fd()).map_err(no_hook)?;
    fault::point("up:attached");
    raw::pin(link.as_fd(), &files.link()).map_err(Error::at("pin", &files.link()))
}

/// A kernel without the hook does not know the type of the attachment.
fn no_hook(cause: std::io::Error) -> Error {
    match cause.raw_os_error() {
        Some(libc::EINVAL) => {
            Error::Kernel(KernelError::Feature { what: "sk_lookup hook", since: "5.9", source: cause })
        }
        _ => Error::os("attach to", "the network namespace")(cause),
    }
}
