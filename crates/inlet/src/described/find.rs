//! Looking through the sockets that exist: the programs tell which ones are wanted, and put them where there is a place.

use std::collections::BTreeMap;
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
use crate::socket::{Lane, Lanes, Place, Places, Sockets, cookie_in};
use crate::state::{Access, DescribedFiles, Maps, open_map};

/// A socket that a description means, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The service that wants it.
    pub service: ServiceId,
    /// Its protocol and local address.
    pub endpoint: Endpoint,
    /// The kernel's number of the socket (`SO_COOKIE`).
    pub cookie: u64,
    /// Whether the service had it before; or why it does not get it.
    pub outcome: std::result::Result<Known, Refusal>,
}

/// Whether a service had a socket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was adopted before.
    Before,
    /// It is new.
    New,
}

/// A wanted socket as the programs tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
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
) -> Result<Vec<Found>> {
    let programs = programs(files, protocols)?;
    let wanted = look_through(&programs, netns)?;
    let lanes = Lanes::map(&maps.lanes)?;
    let mut places = Places::survey(maps, &lanes)?;
    let mut findings = Vec::new();
    let mut planned: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
    for socket in &wanted {
        let outcome = plan(socket, &mut places, is_there)?.map(|found| {
            // A command that was killed may have left it in its place and not shown.
            found.iter().filter(|place| place.is_known()).for_each(|place| places.show(place));
            let new: Vec<Place> = found.into_iter().filter(|place| !place.is_known()).collect();
            let known = if new.is_empty() { Known::Before } else { Known::New };
            planned.insert(socket.cookie, new);
            known
        });
        let Wanted { cookie, service, endpoint, .. } = *socket;
        findings.push(Found { service, endpoint, cookie, outcome });
    }
    planned.retain(|_, new| !new.is_empty());
    if !planned.is_empty() {
        let failed = move_in(files, &programs, netns, &places, &planned)?;
        if !failed.is_empty() {
            tell_failed(files, netns, &failed, &mut findings)?;
        }
        planned.values().flatten().try_for_each(|place| take_twice(maps, &lanes, place.lane))?;
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
pub(crate) fn wanted_now(files: &DescribedFiles, netns: &Netns) -> Result<Vec<Wanted>> {
    match files.0.exists() {
        true => look_through(&programs(files, &Protocol::ALL)?, netns),
        false => Ok(Vec::new()),
    }
}

/// The places of a socket, or why it has none.
fn plan(
    socket: &Wanted,
    places: &mut Places<'_>,
    is_there: &dyn Fn(ServiceId) -> Result<bool>,
) -> Result<std::result::Result<Vec<Place>, Refusal>> {
    let others: Vec<ServiceId> = places.holders(socket.cookie).filter(|holder| *holder != socket.service).collect();
    for other in others {
        // One that is gone keeps its sockets in case it comes back, and takes them from nobody.
        if is_there(other)? {
            return Ok(Err(Refusal::Elsewhere));
        }
    }
    Ok(find_places(socket, places))
}

fn find_places(socket: &Wanted, places: &mut Places<'_>) -> std::result::Result<Vec<Place>, Refusal> {
    let families = [(socket.v4, false), (socket.v6, true)];
    let lanes = families.iter().filter(|(serves, _)| *serves);
    lanes
        .map(|(_, v6)| Lane::of(socket.service, socket.endpoint.protocol(), *v6))
        .map(|lane| places.find(lane, socket.cookie).map_err(|_| Refusal::Full))
        .collect()
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
            places.prepare(place);
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
    findings: &mut [Found],
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
    let mut seen = Vec::new();
    for slot in lanes.stock(lane) {
        if let Some(cookie) = cookie_in(&maps.sockets, slot)? {
            if seen.contains(&cookie) {
                let _ = maps.sockets.delete(&slot.0.to_ne_bytes());
            }
            seen.push(cookie);
        }
    }
    Ok(())
}

/// Runs the programs over all sockets of the namespace.
fn look_through(programs: &[OwnedFd], netns: &Netns) -> Result<Vec<Wanted>> {
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

fn wanted(told: &[u8]) -> Option<Wanted> {
    let cookie = u64::from_ne_bytes(told[..8].try_into().ok()?);
    let [service, port, v4, v6] = [2, 3, 4, 5].map(|at| word(told, at));
    let addr: [u8; 16] = told[24..40].try_into().ok()?;
    let protocol = if port >> 16 == 0 { Protocol::Tcp } else { Protocol::Udp };
    let addr = IpAddr::from(Ipv6Addr::from(addr)).to_canonical();
    let endpoint = Endpoint::new(protocol, SocketAddr::new(addr, port as u16));
    let service = ServiceId::new(service as u16)?;
    Some(Wanted { cookie, service, endpoint, v4: v4 != 0, v6: v6 != 0 })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(4 * at..4 * at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
