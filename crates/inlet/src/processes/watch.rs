//! The watcher: UDP sockets have no event at which the kernel could adopt them by itself, so a process is told of binds
//! and looks for them. It is also told of interfaces that come, which get the program that answers leave by. It holds
//! nothing: killed at any time, it loses no socket that has a place.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use inlet_core::Protocol;
use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::answers::cover_again;
use crate::described::{FoundSocket, find};
use crate::error::{DescribeError, Error, Result};
use crate::kernel::{Capability, LinkChanges, capability};
use crate::state::{Access, Exclusive, Files, Location, Maps, holders_of, is_there, leaving_sockets, ruleset_in_force};

/// Somebody who adopts described UDP sockets as they are bound.
pub struct Watcher {
    location: Location,
    files: Files,
    maps: Maps,
    /// Others see by it that somebody watches.
    _watching: Exclusive,
    /// Tells when the instance goes.
    going: OwnedFd,
    interfaces: LinkChanges,
    binds: RingBuffer<'static>,
    bound: std::rc::Rc<Cell<bool>>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Watcher {
    /// Begins to be told of binds.
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`], [`crate::DescribeError::Watched`] when somebody watches already, and errors of the
    /// kernel.
    pub fn new(location: Location) -> Result<Self> {
        location.check_bpffs()?;
        capability::require("inlet watch", &[Capability::Bpf, Capability::NetAdmin])?;
        let files = Files(location.dir());
        if !is_there(&files.0)? {
            return Err(location.not_up());
        }
        let going = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(Error::os("watch", "files"))?;
        inotify::add_watch(&going, &files.0, WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF)
            .map_err(Error::at("watch", &files.0))?;
        let Some(watching) = Exclusive::if_free(&files.watch())? else {
            let holders = holders_of(&files.watch())?;
            return Err(DescribeError::Watched { path: files.0, holders }.into());
        };
        let maps = Maps::open(&files, Access::Write)?;
        let interfaces = LinkChanges::of(location.netns())?;
        let bound = std::rc::Rc::new(Cell::new(false));
        let binds = ring(&maps.binds, bound.clone()).map_err(Error::os("read", "binds of sockets"))?;
        Ok(Self { location, files, maps, _watching: watching, going, interfaces, binds, bound })
    }

    /// Looks for sockets of all descriptions, and for interfaces, that were there before anybody watched.
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`] when the instance is gone, and errors of the kernel.
    pub fn look(&self) -> Result<Vec<FoundSocket>> {
        self.cover()?;
        self.find(&Protocol::ALL)
    }

    /// Waits until a described UDP socket is bound, and adopts it. `None` when it was woken by something else: `wake`
    /// can be read from, or an interface came, which is looked after then.
    ///
    /// # Errors
    /// [`crate::StateError::NotUp`] when the instance is gone, and errors of the kernel.
    pub fn wait(&self, wake: Option<BorrowedFd<'_>>) -> Result<Option<Vec<FoundSocket>>> {
        let told = crate::kernel::raw::epoll_of(&self.binds);
        let wake = wake.unwrap_or(self.going.as_fd());
        let mut ready = [&told, &self.going.as_fd(), &wake, &self.interfaces.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        rustix::io::retry_on_intr(|| poll(&mut ready, None)).map_err(Error::os("wait for", "binds of sockets"))?;
        if !ready[1].revents().is_empty() {
            return Err(self.location.not_up());
        }
        if !ready[3].revents().is_empty() {
            self.interfaces.drain();
            self.cover()?;
        }
        self.binds.consume().map_err(Error::os("read", "binds of sockets"))?;
        match self.bound.take() {
            true => self.find(&[Protocol::Udp]).map(Some),
            false => Ok(None),
        }
    }

    /// Attaches to every interface what answers need.
    fn cover(&self) -> Result<()> {
        let _lock = Exclusive::on(&self.files.0)?.ok_or_else(|| self.location.not_up())?;
        cover_again(&self.files.answers(), self.location.netns())
    }

    fn find(&self, protocols: &[Protocol]) -> Result<Vec<FoundSocket>> {
        let _lock = Exclusive::on(&self.files.0)?.ok_or_else(|| self.location.not_up())?;
        let (files, leaving) = (self.files.described(), leaving_sockets(&self.files)?);
        match files.are_there()? {
            true => find(&self.maps, &files, self.location.netns(), protocols, &leaving, &|id| {
                Ok(ruleset_in_force(&self.files)?.services().get(id).is_some())
            }),
            false => Ok(Vec::new()),
        }
    }
}

fn ring(binds: &dyn MapCore, bound: std::rc::Rc<Cell<bool>>) -> libbpf_rs::Result<RingBuffer<'static>> {
    let mut builder = RingBufferBuilder::new();
    builder.add(binds, move |_| {
        bound.set(true);
        0
    })?;
    builder.build()
}
