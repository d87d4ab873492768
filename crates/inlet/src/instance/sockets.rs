//! Adoption: sockets get a slot and are shown in the lanes of a service; and the way back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use inlet_core::{Endpoint, ServiceId};
use libbpf_rs::{MapCore, MapFlags};
use rustix::io::Errno;

use super::Instance;
use crate::error::{Cause, Error, Refusal, Refused, Result, SocketError};
use crate::fault;
use crate::socket::{
    Adopted, Candidate, Fill, Filter, Lane, Lanes, Places, Seen, Slot, Stranger, Traits, answer_from_anywhere,
    cookie_in, empty, finish_retired, process, sockets_in, strangers, systemd,
};
use crate::state::{Access, Counters, Stays};

/// A socket that a service has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedSocket {
    /// Its protocol and local address.
    pub endpoint: Endpoint,
    /// The kernel's number of the socket (`SO_COOKIE`).
    pub cookie: u64,
    /// Whether the service had it before.
    pub adopted: Adopted,
    /// Its user, when it is new and no other socket of the service belongs to that user.
    pub stranger: Option<Stranger>,
}

/// What became of the sockets that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Those that the service has now.
    pub adopted: Vec<AdoptedSocket>,
    /// Those that cannot be adopted.
    pub refused: Vec<Refused>,
}

impl Instance {
    /// Gives a listener, or an unconnected UDP socket, of this process to a service.
    ///
    /// # Errors
    /// [`crate::SocketError::NoSocket`] with the reason when it cannot be adopted, [`Error::UnknownService`],
    /// [`crate::SocketError::Taken`].
    pub fn register(&mut self, service: &str, socket: impl AsFd) -> Result<AdoptedSocket> {
        let name = format!("socket {}", socket.as_fd().as_raw_fd());
        let mut seen = Seen::new(self.location.netns().cookie(), Filter::All);
        seen.look(&name, socket);
        let mut adoption = self.adopt_all(service, "this program", seen)?;
        Ok(adoption.adopted.remove(0))
    }

    /// Gives the sockets of a process to a service: all that can be adopted, or with `listen` those with these
    /// protocols and local addresses.
    ///
    /// # Errors
    /// [`crate::SocketError::NoProcess`], [`crate::SocketError::ProcessDenied`], [`crate::SocketError::NoSocket`] when
    /// none is left or one of `listen` is absent, [`crate::SocketError::SeveralPorts`] when `listen` is empty and the
    /// sockets of a protocol are at several ports, and those of [`Instance::register`].
    pub fn register_process(&mut self, service: &str, pid: u32, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let wanted = if listen.is_empty() { Filter::OnePort } else { Filter::At(listen) };
        let seen = self.look(wanted, |look| process::each(pid, |_| true, look))?;
        self.adopt_all(service, &format!("process {pid}"), seen)
    }

    /// Gives the sockets that systemd passed to this process (`LISTEN_FDS`) to a service.
    ///
    /// # Errors
    /// [`crate::SocketError::NoListenFds`] when it passed none, and those of [`Instance::register_process`].
    pub fn register_systemd(&mut self, service: &str, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let wanted = if listen.is_empty() { Filter::OnePort } else { Filter::At(listen) };
        let seen = self.look(wanted, |look| systemd::each(look))?;
        self.adopt_all(service, "systemd", seen)
    }

    /// Gives sockets that another process passed to this one to a service. `of` is how messages call that process. None
    /// of them is closed here: that may block.
    ///
    /// # Errors
    /// Those of [`Instance::register_process`].
    pub(crate) fn register_passed(&mut self, service: &str, of: &str, sockets: &[OwnedFd]) -> Result<Adoption> {
        self.service(service)?;
        let mut seen = Seen::new(self.location.netns().cookie(), Filter::All);
        sockets.iter().enumerate().for_each(|(at, fd)| seen.look(&format!("socket {at}"), fd.as_fd()));
        self.adopt_all(service, of, seen)
    }

    /// Takes the sockets of a service out, or with `pid` those that this process has open. Gives how many.
    ///
    /// # Errors
    /// [`Error::UnknownService`], and with `pid` [`crate::SocketError::NoProcess`] and
    /// [`crate::SocketError::ProcessDenied`].
    pub fn unregister(&mut self, service: &str, pid: Option<u32>) -> Result<usize> {
        self.service(service)?;
        let wanted = pid.map(cookies).transpose()?;
        self.take_out(service, wanted.as_ref())
    }

    /// Takes those of the sockets of a service out that another process passed to this one. Gives how many.
    pub(crate) fn unregister_passed(&mut self, service: &str, sockets: &[OwnedFd]) -> Result<usize> {
        let passed = sockets.iter().flat_map(rustix::net::sockopt::socket_cookie).collect();
        self.take_out(service, Some(&passed))
    }

    fn take_out(&self, service: &str, wanted: Option<&BTreeSet<u64>>) -> Result<usize> {
        let id = self.service(service)?;
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut removed = BTreeSet::new();
        for lane in Lane::all(id) {
            for (slot, cookie) in sockets_in(&self.maps.sockets, lanes.slots(lane))? {
                if wanted.is_none_or(|wanted| wanted.contains(&cookie)) {
                    empty(&self.maps.sockets, slot);
                    removed.insert(cookie);
                    fault::point("unregister:one");
                }
            }
        }
        fault::point("unregister:all");
        for lane in Lane::all(id) {
            lanes.hide_empty_end(lane, |slot| Ok(cookie_in(&self.maps.sockets, slot)?.is_some()))?;
        }
        if let Some(wanted) = &wanted {
            let draining: BTreeSet<u64> = wanted.difference(&removed).copied().collect();
            return Ok(removed.len() + self.end_draining(&draining)?);
        }
        Ok(removed.len())
    }

    /// Takes everything that services have out of the maps, so that their numbers can be used anew.
    pub(crate) fn retire(&self, services: &[ServiceId]) -> Result<()> {
        if services.is_empty() {
            return Ok(());
        }
        let lanes = Lanes::map(&self.maps.lanes)?;
        for id in services {
            Lane::all(*id).iter().for_each(|lane| lanes.retire(*lane));
            if self.maps.counters(Some(*id))? != Counters::default() {
                self.maps.clear_counters(*id)?;
            }
        }
        if let Some(stays) = Stays::open(&self.files.sticky(), &self.files.answers(), Access::Write)? {
            stays.maps.retire(services)?;
        }
        fault::point("retire:hidden");
        finish_retired(&self.maps, &lanes)
    }

    /// Looks at sockets; `all` goes through them.
    fn look<'a>(
        &self,
        wanted: Filter<'a>,
        all: impl FnOnce(&mut dyn FnMut(&str, OwnedFd)) -> Result<()>,
    ) -> Result<Seen<'a, OwnedFd>> {
        let mut seen = Seen::new(self.location.netns().cookie(), wanted);
        all(&mut |name, fd| seen.look(name, fd))?;
        Ok(seen)
    }

    fn adopt_all<F: AsFd>(&mut self, service: &str, of: &str, seen: Seen<'_, F>) -> Result<Adoption> {
        let id = self.service(service)?;
        let (candidates, mut refused) = choose(service, of, seen)?;
        self.require_back()?;
        // What a commit left to do comes first: places of services that are gone may still be seen by packets.
        self.finish_commit()?;
        self.require_inside(service, candidates.iter().map(|it| (it.traits.endpoint, it.traits.cookie)))?;
        self.ready_for(id, candidates.iter().map(|it| it.traits.endpoint))?;
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut places = self.plan_places(service, id, &lanes, &candidates)?;
        let max = self.maps.max_sockets();
        places.make_room()?.map_err(|full| full.of(service, max))?;
        let (mut adopted, mut failed) = (Vec::new(), None);
        for candidate in &candidates {
            let Traits { endpoint, cookie, .. } = candidate.traits;
            let own = lanes_for(id, &candidate.traits);
            let was_there = own.iter().all(|lane| places.has(*lane, cookie));
            let when = if was_there { Adopted::Before } else { Adopted::Now };
            match self.settle(&mut places, candidate, &own) {
                Ok(()) => {
                    answer_from_anywhere(&candidate.fd, &candidate.traits);
                    adopted.push(AdoptedSocket { endpoint, cookie, adopted: when, stranger: None });
                }
                // What the others got they keep, and the caller is told of each.
                Err(cause) => {
                    let reason = Refusal::NotTaken(Errno::from_io_error(&cause).unwrap_or(Errno::IO));
                    refused.push(Refused { what: endpoint.to_string(), reason });
                    failed.get_or_insert_with(|| Error::os("adopt", endpoint)(cause));
                }
            }
        }
        match failed {
            Some(error) if adopted.is_empty() => Err(error),
            _ => {
                self.end_draining(&adopted.iter().map(|it| it.cookie).collect())?;
                self.find_strangers(id, &mut adopted)?;
                Ok(Adoption { adopted, refused })
            }
        }
    }

    /// Says of new sockets which ones are of another user than the others of the service.
    fn find_strangers(&self, id: ServiceId, adopted: &mut [AdoptedSocket]) -> Result<()> {
        let new = adopted.iter().filter(|it| it.adopted == Adopted::Now).map(|it| (id, it.cookie)).collect();
        let strangers = strangers(&self.maps, self.location.netns(), &new)?;
        adopted.iter_mut().for_each(|it| it.stranger = strangers.get(&it.cookie).copied());
        Ok(())
    }

    /// Plans for every candidate before the first one is moved in, so that what does not fit changes nothing.
    fn plan_places<'a, F>(
        &'a self,
        service: &str,
        id: ServiceId,
        lanes: &'a Lanes,
        candidates: &[Candidate<F>],
    ) -> Result<Places<'a>> {
        let mut places = Places::survey(&self.maps, lanes, Fill::Gaps)?;
        for Candidate { traits: candidate, .. } in candidates {
            // A service that is gone keeps it too: when one goes back to it, it has the socket again.
            let services = self.ruleset()?.services();
            let others = places.holders(candidate.cookie).filter(|owner| *owner != id);
            if let Some(owner) = others.filter_map(|owner| services.get(owner)).next() {
                let service = owner.name.as_str().to_owned();
                return Err(Error::Socket(SocketError::Taken { socket: candidate.endpoint.to_string(), service }));
            }
            for lane in lanes_for(id, candidate) {
                places.plan(lane, candidate.cookie).map_err(|full| full.of(service, self.maps.max_sockets()))?;
            }
        }
        Ok(places)
    }

    /// Moves a socket into its places.
    fn settle<F: AsFd>(&self, places: &mut Places<'_>, candidate: &Candidate<F>, lanes: &[Lane]) -> io::Result<()> {
        let fd = candidate.fd.as_fd().as_raw_fd() as u64;
        let store = |slot: Slot| {
            let stored = self.maps.sockets.update(&slot.0.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::NO_EXIST);
            stored.map_err(Cause::into_io)
        };
        let full = |_| io::Error::from_raw_os_error(libc::ENOSPC);
        for lane in lanes {
            let mut place = places.place(*lane, candidate.traits.cookie).map_err(full)?;
            loop {
                match places.settle(&place, store) {
                    // The kernel has put a described listener into it meanwhile.
                    Err(cause) if cause.raw_os_error() == Some(libc::EEXIST) => {
                        place = places.another(&place, candidate.traits.cookie).map_err(full)?;
                    }
                    settled => break settled?,
                }
            }
        }
        fault::point("register:shown");
        Ok(())
    }
}

/// Those that are wanted, and the others; or why it cannot be done as it was asked.
pub(crate) fn choose<F>(service: &str, of: &str, seen: Seen<'_, F>) -> Result<(Vec<Candidate<F>>, Vec<Refused>)> {
    let Seen { wanted, candidates, others, mut refused, .. } = seen;
    let at = || candidates.iter().map(|candidate| candidate.traits.endpoint);
    let (of, service) = (of.to_owned(), service.to_owned());
    let found: Box<[Endpoint]> = at().collect::<BTreeSet<_>>().into_iter().collect();
    let absent: Box<[Endpoint]> = match wanted {
        Filter::OnePort if !others.is_empty() => {
            let mut endpoints: Vec<Endpoint> = at().chain(others).collect::<BTreeSet<_>>().into_iter().collect();
            // What a client port is for the server comes after what it listens on.
            endpoints.sort_by_key(|endpoint| (endpoint.protocol(), endpoint.addr().port()));
            return Err(Error::Socket(SocketError::SeveralPorts { of, service, endpoints }));
        }
        Filter::At(listen) => listen.iter().filter(|at| !found.iter().any(|it| at.means(it))).copied().collect(),
        _ => Box::default(),
    };
    if absent.is_empty() && !candidates.is_empty() {
        return Ok((candidates, refused));
    }
    let other = |other: &Endpoint| Refused { what: other.to_string(), reason: Refusal::NotAsked };
    refused.extend(others.iter().map(other));
    Err(Error::Socket(SocketError::NoSocket { of, service, absent, found, refused: refused.into() }))
}

fn lanes_for(id: ServiceId, candidate: &Traits) -> Vec<Lane> {
    let families = [(candidate.v4, false), (candidate.v6, true)];
    families
        .iter()
        .filter(|(serves, _)| *serves)
        .map(|(_, v6)| Lane::of(id, candidate.endpoint.protocol(), *v6))
        .collect()
}

/// The sockets that a process has open.
fn cookies(pid: u32) -> Result<BTreeSet<u64>> {
    let mut cookies = BTreeSet::new();
    process::each(pid, |_| true, |_, fd| cookies.extend(rustix::net::sockopt::socket_cookie(fd)))?;
    Ok(cookies)
}
