//! Draining: the sockets of a process get no new flows and connections, and keep those that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use inlet_core::ServiceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_cookie;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Instance;
use crate::error::{Error, Result, SocketError};
use crate::fault;
use crate::kernel::Netns;
use crate::socket::{Lane, Lanes, Left, Listed, Sockets, cookie_in, empty, left_on, process, sockets_in};
use crate::state::{Access, Readers, Stays, StickyMaps, leaving_sockets, max_flows};

/// The sockets of a process that are being drained. Waiting for them takes no lock.
#[derive(Debug)]
pub struct Draining {
    /// How many sockets these are.
    pub sockets: usize,
    /// For how many seconds a silent flow stays; 0: flows over UDP have gone to the others.
    pub sticky: u16,
    service: ServiceId,
    cookies: BTreeSet<u64>,
    netns: Netns,
    stays: Stays,
    process: OwnedFd,
}

impl Instance {
    /// From now on the sockets of a process get no new flows and connections of a service. Flows that stay on them
    /// (`sticky`) go on getting there. When they are drained already, nothing changes.
    ///
    /// # Errors
    /// [`SocketError::NotServing`] when the service has no socket of the process, [`SocketError::NoOther`] when no socket
    /// of another process could take the new ones, and those of [`Instance::unregister`].
    pub fn drain(&mut self, service: &str, pid: u32) -> Result<Draining> {
        let id = self.service(service)?;
        self.require_back()?;
        self.finish_commit()?;
        let mut open: BTreeMap<u64, OwnedFd> = BTreeMap::new();
        process::each(pid, |_| true, |_, fd| open.extend(socket_cookie(&fd).ok().map(|cookie| (cookie, fd))))?;
        let process = Pid::from_raw(pid as i32).ok_or(Error::Socket(SocketError::NoProcess(pid)))?;
        let process = pidfd_open(process, PidfdFlags::empty()).map_err(Error::os("open", format!("process {pid}")))?;
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut leaves = BTreeSet::new();
        for lane in Lane::all(id) {
            let all = sockets_in(&self.maps.sockets, lanes.slots(lane))?;
            let (its, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, cookie)| open.contains_key(cookie));
            if !its.is_empty() && others.is_empty() {
                let (protocol, family) = (lane.protocol(), if lane.is_v6() { "IPv6" } else { "IPv4" });
                let service = service.to_owned();
                return Err(SocketError::NoOther { service, pid, protocol: protocol.as_str(), family }.into());
            }
            leaves.extend(its.into_iter().map(|(_, cookie)| cookie));
        }
        let leaving = self.leaving_sockets()?;
        let before: BTreeSet<u64> = open.keys().copied().filter(|cookie| leaving.contains(cookie)).collect();
        if leaves.is_empty() && before.is_empty() {
            return Err(SocketError::NotServing { service: service.to_owned(), pid }.into());
        }
        let maps = StickyMaps::ensure(&self.files.sticky(), max_flows(&self.files)?, Readers::of(&self.files.0)?)?;
        for (cookie, fd) in open.iter().filter(|(cookie, _)| leaves.contains(cookie) && !before.contains(cookie)) {
            maps.let_leave(*cookie, fd.as_fd().as_raw_fd(), id)?;
            fault::point("drain:one");
        }
        // The commit point of each socket: packets of new flows do not find it any more.
        for lane in Lane::all(id) {
            for (slot, cookie) in sockets_in(&self.maps.sockets, lanes.slots(lane))? {
                if leaves.contains(&cookie) {
                    empty(&self.maps.sockets, slot);
                    fault::point("drain:hidden");
                }
            }
            lanes.hide_empty_end(lane, |slot| Ok(cookie_in(&self.maps.sockets, slot)?.is_some()))?;
        }
        let cookies: BTreeSet<u64> = leaves.union(&before).copied().collect();
        let sticky = self.ruleset()?.services().get(id).map_or(0, |service| service.sticky.seconds());
        let (files, netns) = (&self.files, self.location.netns().clone());
        let stays = Stays::open(&files.sticky(), &files.answers(), Access::Read)?;
        let stays = stays.ok_or_else(|| self.location.not_up())?;
        Ok(Draining { sockets: cookies.len(), sticky, service: id, cookies, netns, stays, process })
    }

    /// The sockets that are being drained.
    pub(super) fn leaving_sockets(&self) -> Result<BTreeSet<u64>> {
        leaving_sockets(&self.files)
    }

    /// Ends the draining of sockets: a service has them again, or nobody wants them any more.
    pub(super) fn end_draining(&self, cookies: &BTreeSet<u64>) -> Result<usize> {
        match Stays::open(&self.files.sticky(), &self.files.answers(), Access::Write)? {
            Some(stays) => stays.maps.forget(cookies),
            None => Ok(0),
        }
    }
}

impl Draining {
    /// What is left now.
    ///
    /// # Errors
    /// Those of listing sockets and of reading the flows.
    pub fn left(&self) -> Result<Left> {
        let sockets = Sockets::of(&self.netns)?;
        let its: Vec<Listed> = self.cookies.iter().filter_map(|cookie| sockets.get(*cookie)).collect();
        let seconds = |service: u16| if service == self.service.get() { self.sticky } else { 0 };
        let left = left_on(&self.stays, &its, seconds)?;
        Ok(left.into_values().fold(Left::default(), Left::with))
    }

    /// Waits until the process ends, but not longer than this. Gives whether it ended.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self, at_most: Duration) -> Result<bool> {
        let timeout = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            ready => Ok(ready.map_err(Error::os("wait for", "the process"))? > 0),
        }
    }
}
