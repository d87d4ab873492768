//! Adoption: sockets get a slot and are shown in the lanes of a service; and the way back.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};

use inlet_core::ServiceId;
use libbpf_rs::{MapCore, MapFlags};

use super::endpoint::Endpoint;
use super::inspect::{Candidate, Refused, sort};
use super::lanes::{LANE_SLOTS, Lane, Lanes, Slot, cookie_in};
use super::{process, systemd};
use crate::error::{Error, Result};
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
        let fds = [(format!("socket {}", socket.as_fd().as_raw_fd()), socket)];
        let mut adoption = self.adopt_all(service, "this program", &fds, &[])?;
        Ok(adoption.adopted.remove(0))
    }

    /// Gives the sockets of a process to a service: all that can be adopted, or with `listen` those with one of these
    /// protocols and local addresses.
    ///
    /// # Errors
    /// [`Error::NoProcess`], [`Error::ProcessDenied`], [`Error::NoSocket`] when none is left, and those of
    /// [`Instance::register`].
    pub fn register_process(&mut self, service: &str, pid: u32, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let fds = process::sockets(pid)?;
        self.adopt_all(service, &format!("process {pid}"), &fds, listen)
    }

    /// Gives the sockets that systemd passed to this process (`LISTEN_FDS`) to a service.
    ///
    /// # Errors
    /// [`Error::NoListenFds`] when it passed none, and those of [`Instance::register_process`].
    pub fn register_systemd(&mut self, service: &str, listen: &[Endpoint]) -> Result<Adoption> {
        self.service(service)?;
        let fds = systemd::sockets()?;
        self.adopt_all(service, "systemd", &fds, listen)
    }

    /// Takes the sockets of a service out, or with `pid` those that this process has open. Gives how many.
    ///
    /// # Errors
    /// [`Error::UnknownService`], and with `pid` [`Error::NoProcess`] and [`Error::ProcessDenied`].
    pub fn unregister(&mut self, service: &str, pid: Option<u32>) -> Result<usize> {
        let id = self.service(service)?;
        let wanted: Option<BTreeSet<u64>> = match pid {
            None => None,
            Some(pid) => Some(cookies(&process::sockets(pid)?)),
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

    fn adopt_all<F: AsFd>(
        &mut self,
        service: &str,
        of: &str,
        fds: &[(String, F)],
        listen: &[Endpoint],
    ) -> Result<Adoption> {
        let id = self.service(service)?;
        let (mut candidates, mut refused) = sort(fds, self.location.netns().cookie());
        if !listen.is_empty() {
            candidates.retain(|candidate| listen.contains(&candidate.endpoint));
        }
        if candidates.is_empty() {
            if !listen.is_empty() {
                let (others, _) = sort(fds, self.location.netns().cookie());
                refused.extend(
                    others
                        .iter()
                        .map(|other| Refused { what: other.endpoint.to_string(), reason: super::Refusal::NotAsked }),
                );
            }
            return Err(Error::NoSocket { of: of.to_owned(), service: service.to_owned(), refused });
        }
        let lanes = Lanes::map(&self.maps.lanes)?;
        let places = match self.places(service, id, &lanes, &candidates) {
            // Places of sockets that closed can be had; until now they were kept for their like.
            Err(Error::LaneFull { .. } | Error::TooManySockets(_)) => {
                self.forget_closed(&lanes)?;
                self.places(service, id, &lanes, &candidates)?
            }
            places => places?,
        };
        let mut adopted = Vec::new();
        for (candidate, place) in candidates.iter().zip(places) {
            self.settle(id, &lanes, candidate, &place)?;
            let known = matches!(place, Place::Known(..));
            adopted.push(Adopted { endpoint: candidate.endpoint, cookie: candidate.cookie, known });
        }
        Ok(Adoption { adopted, refused })
    }

    /// Finds a place for every candidate before the first one is moved in, so that what does not fit changes nothing.
    fn places(&self, service: &str, id: ServiceId, lanes: &Lanes, candidates: &[Candidate<'_>]) -> Result<Vec<Place>> {
        let mut census = self.census(id, lanes)?;
        let mut added = [0; 4];
        let mut places = Vec::new();
        for candidate in candidates {
            let mut wanted = lanes_for(id, candidate);
            if let Some((owner, slot, _)) = census.taken.iter().find(|(_, _, cookie)| *cookie == candidate.cookie) {
                if *owner != id {
                    let owner = self.ruleset()?.services().get(*owner).map_or("?", |service| service.name.as_str());
                    return Err(Error::Taken { socket: candidate.endpoint.to_string(), service: owner.to_owned() });
                }
                // All of them, unless a registration ended half way.
                wanted.retain(|lane| !lanes.slots(*lane).contains(slot));
                places.push(Place::Known(*slot, wanted));
                continue;
            }
            if let Some(at) = census.empty.iter().position(|(_, lanes)| *lanes == wanted) {
                places.push(Place::Again(census.empty.swap_remove(at).0));
                continue;
            }
            for lane in &wanted {
                let number = Lane::all(id).iter().position(|other| other == lane).unwrap_or(0);
                added[number] += 1;
                if lanes.slots(*lane).len() + added[number] > LANE_SLOTS {
                    let protocol = candidate.endpoint.protocol().as_str();
                    let family = if number >= 2 { "IPv6" } else { "IPv4" };
                    return Err(Error::LaneFull { service: service.to_owned(), protocol, family, max: LANE_SLOTS });
                }
            }
            let free = census.free.pop_first().ok_or_else(|| Error::TooManySockets(self.maps.sockets.max_entries()))?;
            places.push(Place::New(free, wanted));
        }
        Ok(places)
    }

    /// Moves a socket in.
    fn settle(&self, id: ServiceId, lanes: &Lanes, candidate: &Candidate<'_>, place: &Place) -> Result<()> {
        let slot = match place {
            Place::Known(slot, missing) => {
                missing.iter().for_each(|lane| lanes.add(*lane, *slot));
                return Ok(());
            }
            Place::Again(slot) | Place::New(slot, _) => *slot,
        };
        let fd = candidate.fd.as_raw_fd() as u64;
        self.maps
            .sockets
            .update(&slot.0.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::os("adopt", candidate.endpoint))?;
        fault::point("register:stored");
        if let Place::New(slot, wanted) = place {
            for lane in wanted {
                lanes.add(*lane, *slot);
                fault::point("register:lane");
            }
        }
        fault::point("register:shown");
        debug_assert!(lanes_for(id, candidate).iter().all(|lane| lanes.slots(*lane).contains(&slot)));
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

fn lanes_for(id: ServiceId, candidate: &Candidate<'_>) -> Vec<Lane> {
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

fn cookies<F: AsFd>(fds: &[(String, F)]) -> BTreeSet<u64> {
    fds.iter().filter_map(|(_, fd)| rustix::net::sockopt::socket_cookie(fd.as_fd()).ok()).collect()
}
