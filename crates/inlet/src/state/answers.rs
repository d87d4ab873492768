//! The maps that the lookup shares with the programs by which answers leave.

use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::answer_files::AnswerFiles;
use super::layout::is_there;
use super::map::{Access, create, create_keyed, open_map};
use super::readers::Readers;
use crate::bpf::answers::types;
use crate::error::{Error, Result};
use crate::fault;
use crate::kernel::raw;

/// How many flows are noted. The kernel forgets the one that was not used for longest.
pub(crate) const MAX_FLOWS: u32 = 1 << 16;

/// The maps of answers.
#[derive(Debug)]
pub(crate) struct AnswerMaps {
    pub(crate) flows: MapHandle,
    pub(crate) bound: MapHandle,
    pub(crate) counters: MapHandle,
}

/// What became of datagrams to services whose answers leave from where they were asked, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerCounters {
    /// Flows that were noted.
    pub noted: u64,
    /// Flows that asked elsewhere than before: one remote end asked two addresses or ports.
    pub ambiguous: u64,
    /// Datagrams whose flow found no room.
    pub unnoted: u64,
    /// Answers that got the address asked.
    pub addressed: u64,
    /// Answers that got the port asked.
    pub rewritten: u64,
}

impl AnswerMaps {
    /// Opens the maps where they are pinned, and makes those that are not.
    pub(crate) fn ensure(files: &AnswerFiles, readers: Readers) -> Result<Self> {
        let keyed = [size_of::<types::flow>() as u32, size_of::<types::asked>() as u32];
        let (bound, counters) = (size_of::<types::bound_ports>() as u32, size_of::<types::answer_counters>() as u32);
        let kept = |path: &Path, make: &dyn Fn() -> Result<MapHandle>| {
            if is_there(path)? {
                return open_map(path, Access::Write);
            }
            let map = make()?;
            raw::pin(map.as_fd(), path).map_err(Error::at("pin", path))?;
            fault::point("answers:map");
            readers.admit_to_map(path)?;
            Ok(map)
        };
        Ok(Self {
            flows: kept(&files.flows(), &|| create_keyed("inlet_flows", MapType::LruHash, keyed, MAX_FLOWS, 0))?,
            bound: kept(&files.bound(), &|| create("inlet_bound", MapType::Array, bound, 1, 0))?,
            counters: kept(&files.counters(), &|| create("inlet_answers", MapType::PercpuArray, counters, 1, 0))?,
        })
    }
}

/// Reads the counters of an instance whose program notes flows.
pub(crate) fn answer_counters(files: &AnswerFiles) -> Result<AnswerCounters> {
    let map = open_map(&files.counters(), Access::Read)?;
    let per_cpu = map.lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY);
    let values = per_cpu.map_err(Error::at("read", &files.counters()))?.unwrap_or_default();
    let sum = |offset: usize| {
        let field = |value: &Vec<u8>| value.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
        values.iter().filter_map(field).map(u64::from_ne_bytes).sum()
    };
    Ok(AnswerCounters {
        noted: sum(offset_of!(types::answer_counters, noted)),
        ambiguous: sum(offset_of!(types::answer_counters, changed)),
        unnoted: sum(offset_of!(types::answer_counters, unnoted)),
        addressed: sum(offset_of!(types::answer_counters, addressed)),
        rewritten: sum(offset_of!(types::answer_counters, rewritten)),
    })
}
