//! Looking through the sockets that exist: the programs tell which ones are wanted, and put them where there is a place.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::{Endpoint, Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::io::Errno;

use super::refusals;
use super::whole::read_whole;
use crate::bpf::adopt::types;
use crate::error::{Error, Refusal, Result};
use crate::kernel::{Links, Netns, raw};
use crate::socket::{Adopted, Fill, Full, Lane, Lanes, Place, Places, Sockets, Stranger, empty, sockets_in, strangers};
use crate::state::{Access, DescribedFiles, Maps, open_map};

/// A socket that a description means, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSocket {
    /// The service that wants it.
    pub service: ServiceId,
    /// Its protocol and local address.
    pub endpoint: Endpoint,
    /// The kernel's number of the socket (`SO_COOKIE`).
    pub cookie: u64,
    /// Whether the service had it before; or why it does not get it.
    pub outcome: std::result::Result<Adopted, Refusal>,
    /// Its user, when it is new and no other socket of the service belongs to that user.
    pub stranger: Option<Stranger>,
}

/// A wanted socket as the programs tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub(crate) cookie: u64,
    pub(crate) service: ServiceId,
    pub(crate) endpoint: Endpoint,
    v4: bool,
    v6: bool,
}

const FOUND: usize = size_of::<types::found>();
const PLACE: usize = size_of::<types::place>();
const _: () = assert!(
    FOUND == 48
        && offset_of!(types::found, service) == 8
        && offset_of!(types::found, port) == 12
        && offset_of!(types::found, v4) == 16
        && offset_of!(types::found, v6) == 20
        && offset_of!(types::found, addr) == 24
        && offset_of!(types::found, device) == 40
        && PLACE == 16
        && offset_of!(types::place, error) == 8
);

/// The programs that go through the sockets that exist, and the maps in which they tell what became of one.
#[derive(Debug)]
pub(crate) struct Finder {
    pub(super) programs: Vec<OwnedFd>,
    pub(super) places: MapHandle,
    pub(super) refusals: MapHandle,
}

/// What was found, and where the sockets lie that a service can have: packets do not go there before they are shown.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) found: Vec<FoundSocket>,
    places: Vec<Place>,
}

impl Placed {
    /// From now on packets go to them.
    pub(crate) fn show(&self, lanes: &Lanes) {
        self.places.iter().for_each(|place| _ = lanes.show(place.lane, place.slot));
    }

    /// Takes those out that are new.
    pub(crate) fn take_out(&self, maps: &Maps) {
        self.places.iter().filter(|place| !place.is_known).for_each(|place| empty(&maps.sockets, place.slot));
    }
}

/// Finds the sockets of these protocols, moves those in that are new, and shows them.
pub(crate) fn find(
    maps: &Maps,
    files: &DescribedFiles,
    netns: &Netns,
    protocols: &[Protocol],
    leaving: &BTreeSet<u64>,
    is_there: &dyn Fn(ServiceId) -> Result<bool>,
) -> Result<Vec<FoundSocket>> {
    let lanes = Lanes::map(&maps.lanes)?;
    let keeps = |id, _: &Endpoint| is_there(id);
    let places = Places::survey(maps, &lanes, Fill::Gaps)?;
    let placed = Finder::pinned(files, protocols)?.place(places, netns, leaving, &keeps)?;
    placed.show(&lanes);
    let touched: BTreeSet<Lane> = placed.places.iter().filter(|it| !it.is_known).map(|place| place.lane).collect();
    touched.into_iter().try_for_each(|lane| take_twice(maps, &lanes, lane))?;
    let mut found = placed.found;
    let is_new = |found: &&mut FoundSocket| found.outcome == Ok(Adopted::Now);
    let new = found.iter_mut().filter(is_new).map(|found| (found.service, found.cookie)).collect();
    let strangers = strangers(maps, netns, &new)?;
    found.iter_mut().for_each(|found| found.stranger = strangers.get(&found.cookie).copied());
    Ok(found)
}

/// The sockets that descriptions in force mean, whether their services have them or not. Nothing is changed: without a place
/// of its own a socket is only reported.
pub(crate) fn reported_now(files: &DescribedFiles, netns: &Netns) -> Result<Vec<Reported>> {
    match files.are_there()? {
        true => Finder::pinned(files, &Protocol::ALL)?.look_through(netns),
        false => Ok(Vec::new()),
    }
}

impl Finder {
    /// Those in force.
    fn pinned(files: &DescribedFiles, protocols: &[Protocol]) -> Result<Self> {
        let open = |protocol: &Protocol| {
            raw::open_pin(&files.find(*protocol)).map_err(Error::at("open", &files.find(*protocol)))
        };
        Ok(Self {
            programs: protocols.iter().map(open).collect::<Result<_>>()?,
            places: open_map(&files.places(), Access::Write)?,
            refusals: open_map(&files.refusals(), Access::Write)?,
        })
    }

    /// Finds sockets and moves those in that are new, without showing any. Those of `leaving` are being drained, and nobody
    /// gets them. `keeps` says whether another service goes on having a socket that it has.
    pub(crate) fn place(
        &self,
        mut places: Places<'_>,
        netns: &Netns,
        leaving: &BTreeSet<u64>,
        keeps: &dyn Fn(ServiceId, &Endpoint) -> Result<bool>,
    ) -> Result<Placed> {
        let mut wanted = self.look_through(netns)?;
        wanted.retain(|socket| !leaving.contains(&socket.cookie));
        let mut found: Vec<FoundSocket> = Vec::new();
        for socket in &wanted {
            let known = lanes_of(socket).all(|lane| places.has(lane, socket.cookie));
            let outcome =
                plan(socket, &mut places, keeps)?.map(|()| if known { Adopted::Before } else { Adopted::Now });
            let Reported { cookie, service, endpoint, .. } = *socket;
            found.push(FoundSocket { service, endpoint, cookie, outcome, stranger: None });
        }
        let has_room = places.make_room()?.is_ok();
        let mut planned: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
        for (socket, finding) in wanted.iter().zip(&mut found).filter(|(_, finding)| finding.outcome.is_ok()) {
            let its: std::result::Result<Vec<Place>, Full> =
                lanes_of(socket).map(|lane| places.place(lane, socket.cookie)).collect();
            match its {
                Ok(its) => _ = planned.insert(socket.cookie, its),
                Err(_) => {
                    debug_assert!(!has_room, "a place was planned");
                    finding.outcome = Err(Refusal::Full);
                }
            }
        }
        let failed = self.move_in(netns, &planned)?;
        if !failed.is_empty() {
            self.tell_failed(netns, &failed, &mut found)?;
        }
        let stand = planned.into_iter().filter(|(cookie, _)| !failed.contains_key(cookie));
        Ok(Placed { found, places: stand.flat_map(|(_, its)| its).collect() })
    }
}

/// Plans for a socket, or says why it gets no place.
fn plan(
    socket: &Reported,
    places: &mut Places<'_>,
    keeps: &dyn Fn(ServiceId, &Endpoint) -> Result<bool>,
) -> Result<std::result::Result<(), Refusal>> {
    let others: Vec<ServiceId> = places.holders(socket.cookie).filter(|holder| *holder != socket.service).collect();
    for other in others {
        // One that is gone keeps its sockets in case it comes back, and takes them from nobody.
        if keeps(other, &socket.endpoint)? {
            return Ok(Err(Refusal::Elsewhere));
        }
    }
    for lane in lanes_of(socket) {
        if places.plan(lane, socket.cookie).is_err() {
            return Ok(Err(Refusal::Full));
        }
    }
    Ok(Ok(()))
}

/// The lanes of a socket: one for each family that it serves.
fn lanes_of(socket: &Reported) -> impl Iterator<Item = Lane> {
    let (service, protocol) = (socket.service, socket.endpoint.protocol());
    let families = [(socket.v4, false), (socket.v6, true)];
    families.into_iter().filter(|(serves, _)| *serves).map(move |(_, v6)| Lane::of(service, protocol, v6))
}

impl Finder {
    /// Has the programs put sockets into their places, those that are new. Gives the errors, by cookie. A socket that closed
    /// meanwhile leaves its slot empty, which is passed over.
    fn move_in(&self, netns: &Netns, planned: &BTreeMap<u64, Vec<Place>>) -> Result<BTreeMap<u64, Errno>> {
        let new: Vec<(u64, Vec<&Place>)> = planned
            .iter()
            .map(|(cookie, its)| (*cookie, its.iter().filter(|place| !place.is_known).collect::<Vec<_>>()))
            .filter(|(_, its)| !its.is_empty())
            .collect();
        if new.is_empty() {
            return Ok(BTreeMap::new());
        }
        let map = &self.places;
        let failed = || Error::os::<libbpf_rs::Error>("write", "the places of sockets");
        for (cookie, its) in &new {
            let mut slots = [0_u32; 4];
            its.iter().for_each(|place| slots[usize::from(place.lane.is_v6())] = place.slot.0 + 1);
            let value: Vec<u8> = slots.into_iter().flat_map(u32::to_ne_bytes).collect();
            map.update(&cookie.to_ne_bytes(), &value, MapFlags::ANY).map_err(failed())?;
        }
        crate::fault::point("adopt:planned");
        let looked = self.look_through(netns);
        crate::fault::point("adopt:stored");
        let mut errors = BTreeMap::new();
        for (cookie, its) in new {
            let value = map.lookup(&cookie.to_ne_bytes(), MapFlags::ANY).map_err(failed())?.unwrap_or_default();
            map.delete(&cookie.to_ne_bytes()).map_err(failed())?;
            let error = |place: &&Place| word(&value, 2 + usize::from(place.lane.is_v6())) as i32;
            errors.extend(
                its.iter().map(error).find(|error| *error != 0).map(|error| (cookie, Errno::from_raw_os_error(-error))),
            );
        }
        looked.map(|_| errors)
    }

    /// Says why the kernel did not take sockets, and keeps it for `status`: who described a service did not see it.
    fn tell_failed(&self, netns: &Netns, failed: &BTreeMap<u64, Errno>, found: &mut [FoundSocket]) -> Result<()> {
        let sockets = Sockets::of(netns)?;
        for finding in found {
            let Some(errno) = failed.get(&finding.cookie) else { continue };
            let listed = sockets.get(finding.cookie);
            let is_mptcp = listed.is_some_and(|listed| listed.mptcp);
            let reason = if is_mptcp { Refusal::Mptcp } else { Refusal::NotTaken(*errno) };
            finding.outcome = Err(reason);
            if finding.endpoint.protocol() == Protocol::Tcp {
                let owner = listed.and_then(|listed| sockets.describe_listed(&listed).owners.into_iter().next());
                refusals::keep(&self.refusals, finding.service, finding.endpoint, owner.as_ref(), reason)?;
            }
        }
        Ok(())
    }

    /// Runs the programs over all sockets of the namespace.
    fn look_through(&self, netns: &Netns) -> Result<Vec<Reported>> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut told = Vec::new();
            for program in &self.programs {
                read_whole(raw::iterate(program.as_fd())?, &mut told)?;
            }
            Ok(told)
        };
        let told =
            netns.run(read)?.map_err(Error::os::<std::io::Error>("look through", "the sockets of the namespace"))?;
        let links = match told.chunks_exact(FOUND).any(|told| word(told, 10) != 0) {
            true => Links::of(netns)?,
            false => Links::default(),
        };
        Ok(told.chunks_exact(FOUND).filter_map(|told| wanted(told, &links)).collect())
    }
}

/// Where the kernel put a listener into a lane at the same time as we did, one of the two is too many.
fn take_twice(maps: &Maps, lanes: &Lanes, lane: Lane) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (slot, cookie) in sockets_in(&maps.sockets, lanes.slots(lane))? {
        if !seen.insert(cookie) {
            empty(&maps.sockets, slot);
        }
    }
    Ok(())
}

fn wanted(told: &[u8], links: &Links) -> Option<Reported> {
    let cookie = u64::from_ne_bytes(told[..8].try_into().ok()?);
    let [service, port, v4, v6] = [2, 3, 4, 5].map(|at| word(told, at));
    let addr: [u8; 16] = told[24..40].try_into().ok()?;
    let protocol = if port >> 16 == 0 { Protocol::Tcp } else { Protocol::Udp };
    let addr = IpAddr::from(Ipv6Addr::from(addr)).to_canonical();
    let endpoint = Endpoint::new(protocol, SocketAddr::new(addr, port as u16)).on(links.known(word(told, 10)));
    let service = ServiceId::new(service as u16)?;
    Some(Reported { cookie, service, endpoint, v4: v4 != 0, v6: v6 != 0 })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(4 * at..4 * at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
