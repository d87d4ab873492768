//! Descriptions as the programs read them: by port, and by address.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use inlet_core::{Description, Interface, Listen, ListenAddr, MAX_NAME, Protocol, Ruleset, ServiceId, UserName};

use super::described;
use super::not_found::{MAX_WANTS, NotFound};
use crate::bpf::adopt::types;
use crate::error::{DescribeError, Error, Result};
use crate::kernel::Cgroups;
use crate::socket::Lane;

const NAME_BYTES: usize = MAX_NAME + 1;
const _: () = assert!(
    size_of::<types::want_key>() == 24
        && size_of::<types::want>() == 24
        && offset_of!(types::want, confine) == 12
        && offset_of!(types::want, device) == 16
        && offset_of!(types::want, own) == 20
        && offset_of!(types::wants, want) == 4
        && size_of::<types::wants>() == 4 + 24 * MAX_WANTS
        && size_of::<types::plain>() == 16
        && offset_of!(types::plain, confine) == 8
        && size_of::<types::confine>() == 8 + inlet_core::MAX_DEPTH * NAME_BYTES
);

/// What all descriptions together want.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    by_key: BTreeMap<[u8; 24], Vec<Claim>>,
    confines: Vec<Vec<String>>,
    ports: BTreeSet<u32>,
    /// The protocols of which sockets of every port are meant.
    any_port: BTreeSet<Protocol>,
    /// Whether programs of a service have own binds.
    pub(crate) own_binds: bool,
    /// The lanes into which the kernel puts listeners.
    pub(crate) listening: BTreeSet<Lane>,
    /// Who gets plain TCP in the place of multipath TCP: the user and the number of the control group.
    plain: Vec<(Option<u32>, u32)>,
    /// The services whose sockets are not found, with the reason.
    left_out: Vec<(ServiceId, NotFound)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    service: ServiceId,
    uid: Option<u32>,
    /// The number of the control group, from 1 on; 0 for none.
    confine: u32,
    /// The kernel's index of the interface; 0 for none.
    device: u32,
    /// Whether bind() moves it.
    own: bool,
}

/// An interface that is not there has this index, which the kernel gives to none: nothing is bound to it.
const NO_DEVICE: u32 = u32::MAX;

impl Claims {
    /// Looks up what descriptions name. What is amiss with one of them keeps nobody from having the others. Interfaces
    /// have the indexes that the ruleset has for them.
    pub(crate) fn of(ruleset: &Ruleset, cgroups: &Cgroups) -> Result<Self> {
        let mut wants = Self::default();
        for (service, description) in described(ruleset.services()) {
            let uid = match &description.user {
                None => None,
                Some(user) => match uid_of(user)? {
                    None => {
                        wants.left_out.push((service, NotFound::User(user.clone())));
                        continue;
                    }
                    known => known,
                },
            };
            let confine = match &description.confine {
                None => 0,
                Some(confine) => wants.confine(cgroups.path_of(confine)?),
            };
            if description.no_mptcp {
                wants.plain.push((uid, confine));
            }
            let own = description.own_binds;
            wants.own_binds |= own;
            let claim =
                |listen: Listen| Claim { service, uid, confine, device: device(listen, ruleset.interfaces()), own };
            let its: Vec<(Listen, Claim)> = description.listen().iter().map(|it| (*it, claim(*it))).collect();
            match its.iter().find_map(|(listen, claim)| wants.contest(*listen, claim)) {
                Some(reason) => wants.left_out.push((service, reason)),
                None => its.into_iter().for_each(|(listen, claim)| wants.add(listen, claim)),
            }
        }
        Ok(wants)
    }

    /// Fails when a service gets nothing for another reason than that its user is not there: these are for the
    /// descriptions to mend.
    pub(crate) fn check(&self) -> Result<()> {
        self.left_out.iter().try_for_each(|(_, reason)| match reason {
            NotFound::User(_) => Ok(()),
            NotFound::Same(listen) => Err(Error::Describe(DescribeError::SameSockets { listen: *listen })),
            NotFound::Many(listen) => {
                Err(Error::Describe(DescribeError::TooManyServices { listen: *listen, max: MAX_WANTS }))
            }
        })
    }

    /// Why a claim cannot stand beside those before.
    fn contest(&self, listen: Listen, claim: &Claim) -> Option<NotFound> {
        let others = self.by_key.get(&key(listen))?;
        let is_same = |other: &Claim| Claim { service: claim.service, ..*other } == *claim && claim.device != NO_DEVICE;
        match others.iter().any(is_same) {
            true => Some(NotFound::Same(listen)),
            false => (others.len() >= MAX_WANTS).then_some(NotFound::Many(listen)),
        }
    }

    fn add(&mut self, listen: Listen, claim: Claim) {
        match listen.port() {
            Some(port) => _ = self.ports.insert(port_key(listen.protocol(), port)),
            None => _ = self.any_port.insert(listen.protocol()),
        }
        if listen.protocol() == Protocol::Tcp {
            self.listening.extend(lanes(claim.service, listen));
        }
        self.by_key.entry(key(listen)).or_default().push(claim);
    }

    fn confine(&mut self, path: Vec<String>) -> u32 {
        let at = self.confines.iter().position(|known| *known == path).unwrap_or_else(|| {
            self.confines.push(path);
            self.confines.len() - 1
        });
        at as u32 + 1
    }

    /// Whether sockets of a protocol are described.
    pub(crate) fn has(&self, protocol: Protocol) -> bool {
        self.any_port.contains(&protocol)
            || self.ports.iter().any(|port| (port >> 16 != 0) == (protocol == Protocol::Udp))
    }

    /// Whether sockets of every port are meant, of a protocol.
    pub(crate) fn has_any_port(&self) -> bool {
        !self.any_port.is_empty()
    }

    /// The described ports, with the protocol's bit.
    pub(crate) fn ports(&self) -> impl ExactSizeIterator<Item = u32> {
        self.ports.iter().copied()
    }

    /// Keys and values of the map of wants.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = ([u8; 24], Vec<u8>)> {
        self.by_key.iter().map(|(key, wants)| (*key, value(wants)))
    }

    /// The values of the array of those who get plain TCP.
    pub(crate) fn plain(&self) -> impl ExactSizeIterator<Item = Vec<u8>> {
        self.plain.iter().map(|(uid, confine)| {
            let (has_uid, uid) = uid.map_or((0, 0), |uid| (1, uid));
            [has_uid, uid, *confine, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
        })
    }

    /// The values of the array of control groups.
    pub(crate) fn confines(&self) -> impl ExactSizeIterator<Item = Vec<u8>> {
        self.confines.iter().map(|path| confine_value(path))
    }
}

/// The index of the interface that sockets at an address must be bound to.
fn device(listen: Listen, interfaces: &[Interface]) -> u32 {
    let index = |name| interfaces.iter().find(|it| it.name == name).map_or(0, |it| it.index);
    listen.device().map_or(0, |name| match index(name) {
        0 => NO_DEVICE,
        index => index,
    })
}

pub(crate) fn port_key(protocol: Protocol, port: u16) -> u32 {
    u32::from(port) | u32::from(protocol == Protocol::Udp) << 16
}

fn key(listen: Listen) -> [u8; 24] {
    let (any, addr) = match listen.addr() {
        ListenAddr::Any => (1_u32, [0; 16]),
        ListenAddr::Exact(addr) => (0, octets(addr)),
    };
    let mut key = [0; 24];
    key[..4].copy_from_slice(&port_key(listen.protocol(), listen.port().unwrap_or(0)).to_ne_bytes());
    key[4..8].copy_from_slice(&any.to_ne_bytes());
    key[8..].copy_from_slice(&addr);
    key
}

/// An address in its IPv6 form.
fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn value(wants: &[Claim]) -> Vec<u8> {
    let words = wants.iter().flat_map(|want| {
        let (has_uid, uid) = want.uid.map_or((0, 0), |uid| (1, uid));
        [u32::from(want.service.get()), has_uid, uid, want.confine, want.device, u32::from(want.own)]
    });
    let mut value: Vec<u8> = [wants.len() as u32].into_iter().chain(words).flat_map(u32::to_ne_bytes).collect();
    value.resize(size_of::<types::wants>(), 0);
    value
}

fn confine_value(path: &[String]) -> Vec<u8> {
    let mut value = (path.len() as u32).to_ne_bytes().to_vec();
    value.resize(offset_of!(types::confine, name), 0);
    for name in path {
        let end = value.len() + NAME_BYTES;
        value.extend(name.as_bytes());
        value.resize(end, 0);
    }
    value.resize(size_of::<types::confine>(), 0);
    value
}

/// The lanes in which a listener at an address can be.
fn lanes(service: ServiceId, listen: Listen) -> Vec<Lane> {
    let lane = |v6| Lane::of(service, listen.protocol(), v6);
    match listen.addr() {
        ListenAddr::Exact(IpAddr::V4(_)) => vec![lane(false)],
        ListenAddr::Exact(IpAddr::V6(addr)) if !addr.is_unspecified() => vec![lane(true)],
        ListenAddr::Exact(_) | ListenAddr::Any => vec![lane(false), lane(true)],
    }
}

/// The number of a user, when there is such a one.
pub(crate) fn uid_of(user: &UserName) -> Result<Option<u32>> {
    let name = user.as_str();
    if let Ok(uid) = name.parse() {
        return Ok(Some(uid));
    }
    let found = nix::unistd::User::from_name(name)
        .map_err(|errno| Error::os("look up user", name)(std::io::Error::from(errno)))?;
    Ok(found.map(|user| user.uid.as_raw()))
}

/// Fails when a unit, control group or user that a description names is not there.
pub(crate) fn check_there(description: &Description) -> Result<()> {
    if let Some(confine) = &description.confine {
        Cgroups::find()?.check(confine)?;
    }
    match &description.user {
        Some(user) if uid_of(user)?.is_none() => {
            Err(Error::Describe(DescribeError::UnknownUser(user.as_str().to_owned())))
        }
        _ => Ok(()),
    }
}

/// The services for which no socket is found now. Who cannot look that up tells nothing.
pub(crate) fn not_found(ruleset: &Ruleset) -> BTreeMap<ServiceId, NotFound> {
    if described(ruleset.services()).next().is_none() {
        return BTreeMap::new();
    }
    let wants = Cgroups::find().and_then(|cgroups| Claims::of(ruleset, &cgroups));
    wants.map(|wants| wants.left_out.into_iter().collect()).unwrap_or_default()
}
