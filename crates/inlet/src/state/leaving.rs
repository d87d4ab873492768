//! Sockets that are being drained: they get no new flows and connections, and keep those that they have.

use std::collections::BTreeSet;
use std::os::fd::RawFd;

use inlet_core::ServiceId;
use libbpf_rs::{MapCore, MapFlags};

use super::layout::Files;
use super::map::Access;
use super::sticky::{MAX_LEAVING, Stays, StickyMaps, unread};
use crate::bpf::steer::types;
use crate::error::{Error, Result, SocketError};

/// In the place of a service: it is gone. Others have their number and one.
const NONE: u32 = 0;

impl StickyMaps {
    /// The sockets that are being drained.
    pub(crate) fn leaving(&self) -> Result<BTreeSet<u64>> {
        Ok(self.leaving_slots()?.into_iter().flatten().collect())
    }

    /// The cookie in each slot that may have a socket that is being drained.
    fn leaving_slots(&self) -> Result<Vec<Option<u64>>> {
        let used = self.count(types::stay_count::STAYS_LEAVING)?;
        (0..used.min(MAX_LEAVING.into()) as u32)
            .map(|slot| {
                let value = self.leaving.lookup(&slot.to_ne_bytes(), MapFlags::ANY).map_err(unread())?;
                Ok(value.and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes))
            })
            .collect()
    }

    /// The sockets that are being drained, each with its service. `None`: an earlier version began it, or that is gone.
    pub(crate) fn drained(&self) -> Result<Vec<(u64, Option<ServiceId>)>> {
        let with_service = |(cookie, slot): (Option<u64>, u32)| {
            cookie.map(|cookie| Ok((cookie, self.drained_from(slot)?))).transpose()
        };
        let slots = self.leaving_slots()?.into_iter().zip(0_u32..);
        slots.map(with_service).filter_map(Result::transpose).collect()
    }

    /// The service that the socket in a slot is drained from.
    fn drained_from(&self, slot: u32) -> Result<Option<ServiceId>> {
        let Some(map) = &self.drained_from else { return Ok(None) };
        let value = map.lookup(&slot.to_ne_bytes(), MapFlags::ANY).map_err(unread())?;
        let number = value.and_then(|value| value.try_into().ok()).map_or(NONE, u32::from_ne_bytes);
        Ok(number.checked_sub(1).and_then(|number| ServiceId::new(number as u16)))
    }

    fn set_drained_from(&self, slot: u32, service: Option<ServiceId>) -> Result<()> {
        let Some(map) = &self.drained_from else { return Ok(()) };
        let number = service.map_or(NONE, |service| u32::from(service.get()) + 1);
        let set = map.update(&slot.to_ne_bytes(), &number.to_ne_bytes(), MapFlags::ANY);
        set.map_err(Error::os("write", "what sockets are drained from"))
    }

    /// These services are gone: their numbers get another meaning.
    pub(super) fn drained_from_none(&self, services: &[ServiceId]) -> Result<()> {
        for slot in 0..self.leaving_slots()?.len() as u32 {
            if self.drained_from(slot)?.is_some_and(|service| services.contains(&service)) {
                self.set_drained_from(slot, None)?;
            }
        }
        Ok(())
    }

    /// Keeps a socket of a service for the flows that stay on it.
    pub(crate) fn let_leave(&self, cookie: u64, fd: RawFd, service: ServiceId) -> Result<()> {
        let slots = self.leaving_slots()?;
        let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        if slot >= MAX_LEAVING as usize {
            return Err(SocketError::TooManyLeaving(MAX_LEAVING).into());
        }
        self.set_drained_from(slot as u32, Some(service))?;
        let (key, value) = ((slot as u32).to_ne_bytes(), (fd as u64).to_ne_bytes());
        let stored = self.leaving.update(&key, &value, MapFlags::NO_EXIST);
        stored.map_err(Error::os("keep", format!("the socket with cookie {cookie}")))?;
        if slot == slots.len() {
            self.set_count(types::stay_count::STAYS_LEAVING, slot as u64 + 1)?;
        }
        Ok(())
    }

    /// Drains these sockets no longer. Gives how many it were.
    pub(crate) fn forget(&self, cookies: &BTreeSet<u64>) -> Result<usize> {
        let slots = self.leaving_slots()?;
        let its = slots.iter().zip(0_u32..).filter(|(cookie, _)| cookie.is_some_and(|it| cookies.contains(&it)));
        let its: Vec<u32> = its.map(|(_, slot)| slot).collect();
        // One whose socket closed meanwhile is empty already.
        its.iter().for_each(|slot| _ = self.leaving.delete(&slot.to_ne_bytes()));
        Ok(its.len())
    }
}

/// The sockets of an instance that are being drained.
pub(crate) fn leaving_sockets(files: &Files) -> Result<BTreeSet<u64>> {
    let stays = Stays::open(&files.sticky(), &files.answers(), Access::Read)?;
    stays.map_or_else(|| Ok(BTreeSet::new()), |stays| stays.maps.leaving())
}
