//! Looking through the sockets that exist: the programs tell which ones are wanted, and put them where there is a place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::{Endpoint, Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags};
use rustix::io::Errno;

use super::refusals;
use crate::bpf::adopt::types;
use crate::error::{Error, Refusal, Result};
use crate::kernel::{Netns, raw};
use crate::socket::{Adopted, Full, Lane, Lanes, Place, Places, Sockets, empty, sockets_in};
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
    FOUND == 40
        && offset_of!(types::found, service) == 8
        && offset_of!(types::found, port) == 12
        && offset_of!(types::found, v4) == 16
        && offset_of!(types::found, v6) == 20
        && offset_of!(types::found, addr) == 24
        && PLACE == 16
        && offset_of!(types::place, error) == 8
);

/// Finds the sockets of these protocols and moves those in that are new.
pub(crate) fn find(
    maps: &Maps,
    files: &DescribedFiles,
    netns: &Netns,
    protocols: &[Protocol],
    is_there: &dyn Fn(ServiceId) -> Result<bool>,
) -> Result<Vec<FoundSocket>> {
    let programs = programs(files, protocols)?;
    let wanted = look_through(&programs, netns)?;
    let lanes = Lanes::map(&maps.lanes)?;
    let mut places = Places::survey(maps, &lanes)?;
    let mut findings: Vec<FoundSocket> = Vec::new();
    for socket in &wanted {
        let known = lanes_of(socket).all(|lane| places.has(lane, socket.cookie));
        let outcome = plan(socket, &mut places, is_there)?.map(|()| if known { Adopted::Before } else { Adopted::Now });
        let Reported { cookie, service, endpoint, .. } = *socket;
        findings.push(FoundSocket { service, endpoint, cookie, outcome });
    }
    let has_room = places.make_room()?.is_ok();
    let mut planned: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
    for (socket, finding) in wanted.iter().zip(&mut findings).filter(|(_, finding)| finding.outcome.is_ok()) {
        let found: std::result::Result<Vec<Place>, Full> =
            lanes_of(socket).map(|lane| places.place(lane, socket.cookie)).collect();
        let Ok(found) = found else {
            debug_assert!(!has_room, "a place was planned");
            finding.outcome = Err(Refusal::Full);
            continue;
        };
        // A command that was killed may have left it in its place and not shown.
        found.iter().filter(|place| place.is_known).for_each(|place| places.show(place));
        planned.insert(socket.cookie, found.into_iter().filter(|place| !place.is_known).collect());
    }
    planned.retain(|_, new| !new.is_empty());
    if !planned.is_empty() {
        let failed = move_in(files, &programs, netns, &places, &planned)?;
        if !failed.is_empty() {
            tell_failed(files, netns, &failed, &mut findings)?;
        }
        let touched: BTreeSet<Lane> = planned.values().flatten().map(|place| place.lane).collect();
        touched.into_iter().try_for_each(|lane| take_twice(maps, &lanes, lane))?;
    }
    Ok(findings)
}

/// The programs that look through the sockets of these protocols.
fn programs(files: &DescribedFiles, protocols: &[Protocol]) -> Result<Vec<OwnedFd>> {
    let open =
        |protocol: &Protocol| raw::open_pin(&files.find(*protocol)).map_err(Error::at("open", &files.find(*protocol)));
    protocols.iter().map(open).collect()
}

/// The sockets that descriptions in force mean, whether their services have them or not. Nothing is changed: without a place
/// of its own a socket is only reported.
pub(crate) fn reported_now(files: &DescribedFiles, netns: &Netns) -> Result<Vec<Reported>> {
    match files.0.exists() {
        true => look_through(&programs(files, &Protocol::ALL)?, netns),
        false => Ok(Vec::new()),
    }
}

/// Plans for a socket, or says why it gets no place.
fn plan(
    socket: &Reported,
    places: &mut Places<'_>,
    is_there: &dyn Fn(ServiceId) -> Result<bool>,
) -> Result<std::result::Result<(), Refusal>> {
    let others: Vec<ServiceId> = places.holders(socket.cookie).filter(|holder| *holder != socket.service).collect();
    for other in others {
        // One that is gone keeps its sockets in case it comes back, and takes them from nobody.
        if is_there(other)? {
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

/// Has the programs put sockets into their places, and shows those that are in. Gives the errors, by cookie.
fn move_in(
    files: &DescribedFiles,
    programs: &[OwnedFd],
    netns: &Netns,
    places: &Places<'_>,
    planned: &BTreeMap<u64, Vec<Place>>,
) -> Result<BTreeMap<u64, Errno>> {
    let map = open_map(&files.places(), Access::Write)?;
    let failed = || Error::os::<libbpf_rs::Error>("write", "the places of sockets");
    for (cookie, new) in planned {
        let mut slots = [0_u32; 4];
        for place in new {
            slots[usize::from(place.lane.is_v6())] = place.slot.0 + 1;
        }
        let value: Vec<u8> = slots.into_iter().flat_map(u32::to_ne_bytes).collect();
        map.update(&cookie.to_ne_bytes(), &value, MapFlags::ANY).map_err(failed())?;
    }
    crate::fault::point("adopt:planned");
    let looked = look_through(programs, netns);
    crate::fault::point("adopt:stored");
    let mut errors = BTreeMap::new();
    for (cookie, new) in planned {
        let value = map.lookup(&cookie.to_ne_bytes(), MapFlags::ANY).map_err(failed())?.unwrap_or_default();
        map.delete(&cookie.to_ne_bytes()).map_err(failed())?;
        for place in new {
            match word(&value, 2 + usize::from(place.lane.is_v6())) as i32 {
                // A socket that closed meanwhile leaves its slot empty, which is passed over.
                0 => places.show(place),
                error => _ = errors.insert(*cookie, Errno::from_raw_os_error(-error)),
            }
        }
    }
    looked.map(|_| errors)
}

/// Says why the kernel did not take sockets, and keeps it for `status`: who described a service did not see it.
fn tell_failed(
    files: &DescribedFiles,
    netns: &Netns,
    failed: &BTreeMap<u64, Errno>,
    findings: &mut [FoundSocket],
) -> Result<()> {
    let sockets = Sockets::of(netns)?;
    let refusals = open_map(&files.refusals(), Access::Write)?;
    for finding in findings {
        let Some(errno) = failed.get(&finding.cookie) else { continue };
        let listed = sockets.get(finding.cookie);
        let is_mptcp = listed.is_some_and(|listed| listed.mptcp);
        let reason = if is_mptcp { Refusal::Mptcp } else { Refusal::NotTaken(*errno) };
        finding.outcome = Err(reason);
        if finding.endpoint.protocol() == Protocol::Tcp {
            let owner = listed.and_then(|listed| sockets.describe_listed(&listed).owners.into_iter().next());
            refusals::keep(&refusals, finding.service, finding.endpoint, owner.as_ref(), reason)?;
        }
    }
    Ok(())
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

/// Runs the programs over all sockets of the namespace.
fn look_through(programs: &[OwnedFd], netns: &Netns) -> Result<Vec<Reported>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut told = Vec::new();
        for program in programs {
            raw::iterate(program.as_fd())?.read_to_end(&mut told)?;
        }
        Ok(told)
    };
    let told = netns.run(read)?.map_err(Error::os::<std::io::Error>("look through", "the sockets of the namespace"))?;
    Ok(told.chunks_exact(FOUND).filter_map(wanted).collect())
}

fn wanted(told: &[u8]) -> Option<Reported> {
    let cookie = u64::from_ne_bytes(told[..8].try_into().ok()?);
    let [service, port, v4, v6] = [2, 3, 4, 5].map(|at| word(told, at));
    let addr: [u8; 16] = told[24..40].try_into().ok()?;
    let protocol = if port >> 16 == 0 { Protocol::Tcp } else { Protocol::Udp };
    let addr = IpAddr::from(Ipv6Addr::from(addr)).to_canonical();
    let endpoint = Endpoint::new(protocol, SocketAddr::new(addr, port as u16));
    let service = ServiceId::new(service as u16)?;
    Some(Reported { cookie, service, endpoint, v4: v4 != 0, v6: v6 != 0 })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(4 * at..4 * at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
