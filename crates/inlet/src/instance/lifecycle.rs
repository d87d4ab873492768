//! The beginning and the end of an instance: it is made aside and published by a rename, and withdrawn by another one.

use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use inlet_core::Ruleset;

use super::Instance;
use crate::answers;
use crate::described::remove_programs;
use crate::error::{Error, KernelError, Result, StateError};
use crate::fault;
use crate::kernel::{Capability, capability, raw};
use crate::program::{Attachments, Generation, begin};
use crate::route;
use crate::state::{Exclusive, Files, Location, Maps, Readers, open_link, remove_all};

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

impl Instance {
    /// Makes the instance of a namespace, with no rules yet, and opens it.
    ///
    /// # Errors
    /// [`crate::StateError::AlreadyUp`] when there is one; what an interrupted commit left in it is removed even so.
    pub fn up(location: Location, options: &UpOptions) -> Result<Self> {
        if !(1..=UpOptions::MAX_SOCKETS).contains(&options.max_sockets) {
            return Err(Error::State(StateError::MaxSockets {
                given: options.max_sockets,
                max: UpOptions::MAX_SOCKETS,
            }));
        }
        let readers = Readers::named(options.group.as_deref())?;
        location.check_bpffs()?;
        capability::require("inlet up", &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon])?;
        let _root = lock_root(&location)?;
        sweep(&location)?;
        if location.dir().exists() {
            let netns = location.netns().label().to_owned();
            Self::open(location)?;
            return Err(Error::State(StateError::AlreadyUp { netns }));
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
    /// [`crate::StateError::NotUp`] when there is none.
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
    answers::remove(&files.answers(), location.netns())?;
    remove_programs(&files.described())?;
    remove_all(dir)
}

fn make(location: &Location, files: &Files, max_sockets: u32, readers: Readers) -> Result<()> {
    std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
    readers.admit_to_dir(&files.0)?;
    fault::point("up:directory");
    let maps = Maps::create(files, max_sockets, readers)?;
    fault::point("up:maps");
    let first = Generation::load(&Ruleset::empty(), &maps, None)?;
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
