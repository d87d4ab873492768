//! Adoption: sockets get a slot and are shown in the lanes of a service; and the way back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use inlet_core::{Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags};
use rustix::io::Errno;

use super::endpoint::Endpoint;
use super::inspect::{Candidate, Refusal, Refused, Seen, Traits, Wanted};
use super::lanes::{LANE_SLOTS, Lane, Lanes, Slot, cookie_in};
use super::{process, systemd};
use crate::error::{Cause, Error, Result};
use crate::fault;
use crate::instance::Instance;
use crate::state::wait_for_packets;

/// A socket that a service has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its protocol and local address.
    pub endpoint: Endpoint,
    /// The kernel's number of the socket (`SO_COOKIE`).
    pub cookie: u64,
    /// Whether the service had it before.
    pub known: bool,
}

/// What became of the sockets that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Those that the service has now.
    pub adopted: Vec<Adopted>,
    /// Those that cannot be adopted.
    pub refused: Vec<Refused>,
}

impl Instance {
    /// Gives a listener, or an unconnected UDP socket, of this process to a service.
    ///
    /// # Errors
    /// [`Error::NoSocket`] with the reason when it cannot be adopted, [`Error::UnknownService`], [`Error::Taken`].
    pub fn register(&mut self, service: &str, socket: impl AsFd) -> Result<Adopted> {
        let name = format!("socket {}", socket.as_fd().as_raw_fd());
        let mut seen = Seen::new(self.location.netns().cookie(), Wanted::All);
        seen.look(&name, socket);
        let mut adoption = self.adopt_all(service, "this program", seen)?;
        Ok(adoption.adopted.remove(0))
    }

    /// Gives the sockets of a process to a service: all that can be adopted, or with `listen` those with these protocols
    /// and local addresses.
    ///
    /// # Errors
    /// [`Error::NoProcess`], [`Error::ProcessDenied`], [`Error::NoSocket`] when none is left or one of `listen` is
    /// absent, [`Error::SeveralPorts`] when `listen` is empty and the sockets of a protocol are at several ports, and
    /// those of [`Instance::register`].
    pub fn register_process(&mut self, service: &str, pid: u32, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let wanted = if listen.is_empty() { Wanted::OnePort } else { Wanted::At(listen) };
        let seen = self.look(wanted, |look| process::each(pid, |_| true, look))?;
        self.adopt_all(service, &format!("process {pid}"), seen)
    }

    /// Gives the sockets that systemd passed to this process (`LISTEN_FDS`) to a service.
    ///
    /// # Errors
    /// [`Error::NoListenFds`] when it passed none, and those of [`Instance::register_process`].
    pub fn register_systemd(&mut self, service: &str, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let wanted = if listen.is_empty() { Wanted::All } else { Wanted::At(listen) };
        let seen = self.look(wanted, |look| systemd::each(look))?;
        self.adopt_all(service, "systemd", seen)
    }

    /// Takes the sockets of a service out, or with `pid` those that this process has open. Gives how many.
    ///
    /// # Errors
    /// [`Error::UnknownService`], and with `pid` [`Error::NoProcess`] and [`Error::ProcessDenied`].
    pub fn unregister(&mut self, service: &str, pid: Option<u32>) -> Result<usize> {
        let id = self.service(service)?;
        let wanted: Option<BTreeSet<u64>> = match pid {
            None => None,
            Some(pid) => Some(cookies(pid)?),
        };
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut removed = BTreeSet::new();
        for slot in slots_of(&lanes, id) {
            let cookie = cookie_in(&self.maps.sockets, slot)?;
            let is_wanted = wanted.as_ref().is_none_or(|wanted| cookie.is_some_and(|cookie| wanted.contains(&cookie)));
            // An empty slot is of no use to anybody any more.
            if is_wanted || cookie.is_none() {
                Lane::all(id).iter().for_each(|lane| lanes.remove(*lane, slot));
                removed.insert((slot, cookie));
            }
        }
        fault::point("unregister:hidden");
        self.empty(removed.iter().map(|(slot, _)| *slot))?;
        Ok(removed.iter().filter(|(_, cookie)| cookie.is_some()).count())
    }

    /// Takes everything that services have out of the maps, so that their numbers can be used anew.
    pub(crate) fn retire(&self, services: &[ServiceId]) -> Result<()> {
        if services.is_empty() {
            return Ok(());
        }
        let lanes = Lanes::map(&self.maps.lanes)?;
        let slots: BTreeSet<Slot> = services.iter().flat_map(|id| slots_of(&lanes, *id)).collect();
        for id in services {
            let counted = self.maps.counters(Some(*id))?;
            Lane::all(*id).iter().for_each(|lane| lanes.clear(*lane));
            if counted != crate::Counters::default() {
                self.maps.clear_counters(*id)?;
            }
        }
        fault::point("retire:hidden");
        self.empty(slots.into_iter())
    }

    /// Takes the slots of all sockets that closed out of the lanes of every service.
    fn forget_closed(&self, lanes: &Lanes) -> Result<()> {
        let mut closed = BTreeSet::new();
        for (owner, _) in self.ruleset()?.services().iter() {
            for slot in slots_of(lanes, owner) {
                if cookie_in(&self.maps.sockets, slot)?.is_none() {
                    Lane::all(owner).iter().for_each(|lane| lanes.remove(*lane, slot));
                    closed.insert(slot);
                }
            }
        }
        self.empty(closed.into_iter())
    }

    /// Empties slots that no lane shows any more, and waits for the packets that may still see them there.
    fn empty(&self, slots: impl Iterator<Item = Slot>) -> Result<()> {
        let mut any = false;
        for slot in slots {
            any = true;
            // A slot whose socket closed is empty already.
            let _ = self.maps.sockets.delete(&slot.0.to_ne_bytes());
        }
        fault::point("slots:emptied");
        if any { wait_for_packets() } else { Ok(()) }
    }

    /// Looks at sockets; `all` goes through them.
    fn look<'a>(
        &self,
        wanted: Wanted<'a>,
        all: impl FnOnce(&mut dyn FnMut(&str, OwnedFd)) -> Result<()>,
    ) -> Result<Seen<'a, OwnedFd>> {
        let mut seen = Seen::new(self.location.netns().cookie(), wanted);
        all(&mut |name, fd| seen.look(name, fd))?;
        Ok(seen)
    }

    fn adopt_all<F: AsFd>(&mut self, service: &str, of: &str, seen: Seen<'_, F>) -> Result<Adoption> {
        let id = self.service(service)?;
        let (candidates, mut refused) = choose(service, of, seen)?;
        // What a commit left to do comes first: places of services that are gone may still be seen by packets.
        self.finish_commit()?;
        let lanes = Lanes::map(&self.maps.lanes)?;
        let places = match self.places(service, id, &lanes, &candidates) {
            // Places of sockets that closed can be had; until now they were kept for their like.
            Err(Error::LaneFull { .. } | Error::TooManySockets(_)) => {
                self.forget_closed(&lanes)?;
                self.places(service, id, &lanes, &candidates)?
            }
            places => places?,
        };
        let (mut adopted, mut failed) = (Vec::new(), None);
        for (candidate, place) in candidates.iter().zip(places) {
            let Traits { endpoint, cookie, .. } = candidate.traits;
            let known = matches!(place, Place::Known(..));
            match self.settle(id, &lanes, candidate, &place) {
                Ok(()) => adopted.push(Adopted { endpoint, cookie, known }),
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
            _ => Ok(Adoption { adopted, refused }),
        }
    }

    /// Finds a place for every candidate before the first one is moved in, so that what does not fit changes nothing.
    fn places<F>(
        &self,
        service: &str,
        id: ServiceId,
        lanes: &Lanes,
        candidates: &[Candidate<F>],
    ) -> Result<Vec<Place>> {
        let mut census = self.census(id, lanes)?;
        let mut added = [0; 4];
        let mut places = Vec::new();
        let mut fit = |wanted: &[Lane], protocol: Protocol| {
            for lane in wanted {
                let number = Lane::all(id).iter().position(|other| other == lane).unwrap_or(0);
                added[number] += 1;
                if lanes.slots(*lane).len() + added[number] > LANE_SLOTS {
                    let (service, protocol) = (service.to_owned(), protocol.as_str());
                    let family = if number >= 2 { "IPv6" } else { "IPv4" };
                    return Err(Error::LaneFull { service, protocol, family, max: LANE_SLOTS });
                }
            }
            Ok(())
        };
        for Candidate { traits: candidate, .. } in candidates {
            let mut wanted = lanes_for(id, candidate);
            if let Some((owner, slot, _)) = census.taken.iter().find(|(_, _, cookie)| *cookie == candidate.cookie) {
                if *owner != id {
                    let owner = self.ruleset()?.services().get(*owner).map_or("?", |service| service.name.as_str());
                    return Err(Error::Taken { socket: candidate.endpoint.to_string(), service: owner.to_owned() });
                }
                // All of them, unless a registration ended half way.
                wanted.retain(|lane| !lanes.slots(*lane).contains(slot));
                fit(&wanted, candidate.endpoint.protocol())?;
                places.push(Place::Known(*slot, wanted));
                continue;
            }
            if let Some(at) = census.empty.iter().position(|(_, lanes)| *lanes == wanted) {
                places.push(Place::Again(census.empty.swap_remove(at).0));
                continue;
            }
            fit(&wanted, candidate.endpoint.protocol())?;
            let free = census.free.pop_first().ok_or_else(|| Error::TooManySockets(self.maps.sockets.max_entries()))?;
            places.push(Place::New(free, wanted));
        }
        Ok(places)
    }

    /// Moves a socket in.
    fn settle<F: AsFd>(&self, id: ServiceId, lanes: &Lanes, candidate: &Candidate<F>, place: &Place) -> io::Result<()> {
        let slot = match place {
            Place::Known(slot, missing) => {
                missing.iter().for_each(|lane| lanes.add(*lane, *slot));
                return Ok(());
            }
            Place::Again(slot) | Place::New(slot, _) => *slot,
        };
        let fd = candidate.fd.as_fd().as_raw_fd() as u64;
        let stored = self.maps.sockets.update(&slot.0.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY);
        stored.map_err(Cause::into_io)?;
        fault::point("register:stored");
        if let Place::New(slot, wanted) = place {
            for lane in wanted {
                lanes.add(*lane, *slot);
                fault::point("register:lane");
            }
        }
        fault::point("register:shown");
        debug_assert!(lanes_for(id, &candidate.traits).iter().all(|lane| lanes.slots(*lane).contains(&slot)));
        Ok(())
    }

    /// Who has which slot now. Slots that a service of another number left behind are free: nothing shows them.
    fn census(&self, id: ServiceId, lanes: &Lanes) -> Result<Census> {
        let mut census = Census { free: (0..self.maps.sockets.max_entries()).map(Slot).collect(), ..Census::default() };
        for (owner, _) in self.ruleset()?.services().iter() {
            for slot in slots_of(lanes, owner) {
                census.free.remove(&slot);
                match cookie_in(&self.maps.sockets, slot)? {
                    Some(cookie) => census.taken.push((owner, slot, cookie)),
                    None if owner == id => {
                        let shown =
                            Lane::all(id).into_iter().filter(|lane| lanes.slots(*lane).contains(&slot)).collect();
                        census.empty.push((slot, shown));
                    }
                    None => {}
                }
            }
        }
        Ok(census)
    }
}

/// Where a socket goes.
enum Place {
    /// It is there already, but for these lanes.
    Known(Slot, Vec<Lane>),
    /// In a slot of the same lanes whose socket closed: the program sees it as soon as it is stored.
    Again(Slot),
    /// In a free slot, to be shown in these lanes.
    New(Slot, Vec<Lane>),
}

#[derive(Default)]
struct Census {
    taken: Vec<(ServiceId, Slot, u64)>,
    empty: Vec<(Slot, Vec<Lane>)>,
    free: BTreeSet<Slot>,
}

/// Those that are wanted, and the others; or why it cannot be done as it was asked.
fn choose<F>(service: &str, of: &str, seen: Seen<'_, F>) -> Result<(Vec<Candidate<F>>, Vec<Refused>)> {
    let Seen { wanted, candidates, others, mut refused, .. } = seen;
    let at = || candidates.iter().map(|candidate| candidate.traits.endpoint);
    let (of, service) = (of.to_owned(), service.to_owned());
    let found: Box<[Endpoint]> = at().collect::<BTreeSet<_>>().into_iter().collect();
    let absent: Box<[Endpoint]> = match wanted {
        Wanted::OnePort if !others.is_empty() => {
            let mut endpoints: Vec<Endpoint> = at().chain(others).collect::<BTreeSet<_>>().into_iter().collect();
            // What a client port is for the server comes after what it listens on.
            endpoints.sort_by_key(|endpoint| (endpoint.protocol(), endpoint.addr().port()));
            return Err(Error::SeveralPorts { of, service, endpoints });
        }
        Wanted::At(listen) => listen.iter().filter(|endpoint| !found.contains(endpoint)).copied().collect(),
        _ => Box::default(),
    };
    if absent.is_empty() && !candidates.is_empty() {
        return Ok((candidates, refused));
    }
    let other = |other: &Endpoint| Refused { what: other.to_string(), reason: Refusal::NotAsked };
    refused.extend(others.iter().map(other));
    Err(Error::NoSocket { of, service, absent, found, refused: refused.into() })
}

fn lanes_for(id: ServiceId, candidate: &Traits) -> Vec<Lane> {
    let families = [(candidate.v4, false), (candidate.v6, true)];
    families
        .iter()
        .filter(|(serves, _)| *serves)
        .map(|(_, v6)| Lane::of(id, candidate.endpoint.protocol(), *v6))
        .collect()
}

fn slots_of(lanes: &Lanes, id: ServiceId) -> BTreeSet<Slot> {
    Lane::all(id).iter().flat_map(|lane| lanes.slots(*lane)).collect()
}

/// The sockets that a process has open.
fn cookies(pid: u32) -> Result<BTreeSet<u64>> {
    let mut cookies = BTreeSet::new();
    process::each(pid, |_| true, |_, fd| cookies.extend(rustix::net::sockopt::socket_cookie(fd)))?;
    Ok(cookies)
}
