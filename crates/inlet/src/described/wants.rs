//! Descriptions as the programs read them: by port, and by address.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use inlet_core::{Confine, Description, Listen, ListenAddr, MAX_NAME, Protocol, ServiceId, Services, UserName};

use super::cgroup::Cgroups;
use super::described;
use crate::error::{Error, Result};
use crate::skeleton::adopt::types;
use crate::socket::Lane;

/// How many services may want sockets of one address.
const MAX_WANTS: usize = 8;
const NAME_BYTES: usize = MAX_NAME + 1;
const _: () = assert!(
    size_of::<types::want_key>() == 24
        && size_of::<types::want>() == 16
        && offset_of!(types::want, confine) == 12
        && offset_of!(types::wants, want) == 4
        && size_of::<types::wants>() == 4 + 16 * MAX_WANTS
        && size_of::<types::confine>() == 8 + inlet_core::MAX_DEPTH * NAME_BYTES
);

/// What all descriptions together want.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    by_key: BTreeMap<[u8; 24], Vec<Want>>,
    confines: Vec<Vec<String>>,
    ports: BTreeSet<u32>,
    /// Whether TCP listeners of every port are meant.
    pub(crate) any_port: bool,
    /// The lanes into which the kernel puts listeners.
    pub(crate) listening: BTreeSet<Lane>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Want {
    service: ServiceId,
    uid: Option<u32>,
    /// The number of the control group, from 1 on; 0 for none.
    confine: u32,
}

impl Wants {
    /// Looks up what descriptions name.
    pub(crate) fn of(services: &Services, cgroups: &Cgroups) -> Result<Self> {
        let mut wants = Self::default();
        for (service, description) in described(services) {
            wants.add(service, description, cgroups)?;
        }
        Ok(wants)
    }

    fn add(&mut self, service: ServiceId, description: &Description, cgroups: &Cgroups) -> Result<()> {
        let uid = description.user.as_ref().map(uid_of).transpose()?;
        let confine = match &description.confine {
            None => 0,
            Some(confine) => self.confine(cgroups.path_of(confine)?),
        };
        let want = Want { service, uid, confine };
        for listen in description.listen() {
            match listen.port() {
                Some(port) => _ = self.ports.insert(port_key(listen.protocol(), port)),
                None => self.any_port = true,
            }
            if listen.protocol() == Protocol::Tcp {
                self.listening.extend(lanes(service, *listen));
            }
            let wants = self.by_key.entry(key(*listen)).or_default();
            if wants.iter().any(|other| (other.uid, other.confine) == (want.uid, want.confine)) {
                return Err(Error::SameWant { listen: *listen });
            }
            wants.push(want);
            if wants.len() > MAX_WANTS {
                return Err(Error::TooManyWants { listen: *listen, max: MAX_WANTS });
            }
        }
        Ok(())
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
        let any = self.any_port && protocol == Protocol::Tcp;
        any || self.ports.iter().any(|port| (port >> 16 != 0) == (protocol == Protocol::Udp))
    }

    /// The described ports, with the protocol's bit.
    pub(crate) fn ports(&self) -> impl ExactSizeIterator<Item = u32> {
        self.ports.iter().copied()
    }

    /// Keys and values of the map of wants.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = ([u8; 24], Vec<u8>)> {
        self.by_key.iter().map(|(key, wants)| (*key, value(wants)))
    }

    /// The values of the array of control groups.
    pub(crate) fn confines(&self) -> impl ExactSizeIterator<Item = Vec<u8>> {
        self.confines.iter().map(|path| confine_value(path))
    }
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

fn value(wants: &[Want]) -> Vec<u8> {
    let words = wants.iter().flat_map(|want| {
        let (has_uid, uid) = want.uid.map_or((0, 0), |uid| (1, uid));
        [u32::from(want.service.get()), has_uid, uid, want.confine]
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

/// The number of a user.
fn uid_of(user: &UserName) -> Result<u32> {
    let name = user.as_str();
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    let found = nix::unistd::User::from_name(name)
        .map_err(|errno| Error::os("look up user", name)(std::io::Error::from(errno)))?;
    found.map(|user| user.uid.as_raw()).ok_or_else(|| Error::UnknownUser(name.to_owned()))
}

/// Fails when a unit or control group that a description names is not there.
pub(crate) fn check_place(confine: &Confine) -> Result<()> {
    Cgroups::find()?.check(confine)
}
