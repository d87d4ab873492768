//! The counters of services.

use std::mem::{offset_of, size_of};

use inlet_core::ServiceId;
use libbpf_rs::{MapCore, MapFlags};

use super::maps::Maps;
use crate::bpf::steer::types;
use crate::error::{Error, Result};

/// What was counted for a service since it was made, over all processors. A look-up counts once in the first three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that a socket received.
    pub steered: u64,
    /// Packets for which there was no live socket.
    pub missed: u64,
    /// Packets that the kernel refused to give to the sockets that there were.
    pub failed: u64,
    /// Those of `missed` and `failed` that the on-missing policy refused.
    pub refused: u64,
}

impl Maps {
    /// The counters of a service, or those of rules without one (`None`), summed over the processors.
    pub(crate) fn counters(&self, service: Option<ServiceId>) -> Result<Counters> {
        let number = service.map_or(0, |id| u32::from(id.get()));
        let per_cpu = self
            .counters
            .lookup_percpu(&number.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::os("read", format!("the counters of service {number}")))?;
        let field = |value: &[u8], offset: usize| {
            value.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
        };
        let mut sum = Counters::default();
        for value in per_cpu.unwrap_or_default() {
            sum.steered += field(&value, offset_of!(types::counters, steered));
            sum.missed += field(&value, offset_of!(types::counters, missed));
            sum.failed += field(&value, offset_of!(types::counters, failed));
            sum.refused += field(&value, offset_of!(types::counters, refused));
        }
        Ok(sum)
    }

    /// Sets the counters of a service to 0.
    pub(crate) fn clear_counters(&self, service: ServiceId) -> Result<()> {
        let cpus = libbpf_rs::num_possible_cpus().map_err(Error::os("count", "processors"))?;
        let zeros = vec![vec![0; size_of::<types::counters>()]; cpus];
        let key = u32::from(service.get()).to_ne_bytes();
        self.counters
            .update_percpu(&key, &zeros, MapFlags::ANY)
            .map_err(Error::os("clear", format!("the counters of service {}", service.get())))
    }
}
