//! The maps that the lookup shares with the programs by which answers leave.

use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;
use std::path::Path;

use inlet_core::PortRange;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::answer_files::AnswerFiles;
use super::flow_table::{FlowTable, copy_entries};
use super::map::{Access, create, create_keyed, open_map};
use super::pins::is_there;
use super::readers::Readers;
use crate::bpf::answers::types;
use crate::error::{Error, Result};
use crate::fault;
use crate::kernel::raw;

/// How many words a set of ports or interfaces has.
const WORDS: usize = size_of::<types::covered>() / size_of::<u64>();

/// How many questions of clients are noted. The kernel forgets the one that was asked longest ago, and later one that got an
/// answer.
const MAX_QUESTIONS: u32 = 1 << 15;

/// The maps of answers.
#[derive(Debug)]
pub(crate) struct AnswerMaps {
    pub(crate) flows: MapHandle,
    pub(crate) bound: MapHandle,
    pub(crate) counters: MapHandle,
    pub(crate) covered: MapHandle,
    pub(crate) changes: MapHandle,
    pub(crate) handed: MapHandle,
    pub(crate) client_ports: MapHandle,
    pub(crate) asking: MapHandle,
    pub(crate) clients: MapHandle,
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
    /// Answers that needed the port asked and did not get it on their way out, where the question had come in through an
    /// interface that has no program which sets ports.
    pub uncovered: u64,
    /// Answers to clients of the host that passed rules for several ports.
    pub passed: u64,
    /// Further entries, of flows that ask at several addresses.
    pub apart: u64,
}

impl AnswerMaps {
    const KEYED: [u32; 2] = [size_of::<types::flow>() as u32, size_of::<types::asked>() as u32];
    const BOUND: u32 = size_of::<types::bound_ports>() as u32;
    const COUNTERS: u32 = size_of::<types::answer_counters>() as u32;
    const COVERED: u32 = size_of::<types::covered>() as u32;
    const HANDED: u32 = size_of::<types::handed>() as u32;
    const CLIENT_PORTS: u32 = size_of::<types::client_ports>() as u32;
    const CLIENT: [u32; 2] = [size_of::<types::flow>() as u32, size_of::<u32>() as u32];
    const ASKING: u32 = size_of::<types::asking>() as u32;

    /// Opens the maps where they are pinned, and makes those that are not. `before` are those whose place they take.
    pub(crate) fn ensure(files: &AnswerFiles, before: &AnswerFiles, max_flows: u32, readers: Readers) -> Result<Self> {
        let kept = |path: &Path, make: &dyn Fn() -> Result<MapHandle>| {
            if is_there(path)? {
                // Who made it may have been killed before the readers were let in.
                readers.admit_to_map(path)?;
                return open_map(path, Access::Write);
            }
            let map = make()?;
            raw::pin(map.as_fd(), path).map_err(Error::at("pin", path))?;
            fault::point("answers:map");
            readers.admit_to_map(path)?;
            Ok(map)
        };
        let (name, keyed) = ("inlet_flows", Self::KEYED);
        // A map of an earlier version has another form.
        let taken = |path: &Path, size: u32| -> Result<Option<MapHandle>> {
            let map = if is_there(path)? { Some(open_map(path, Access::Write)?) } else { None };
            Ok(map.filter(|map| map.value_size() == size))
        };
        let bound = || match taken(&before.bound(), Self::BOUND)? {
            None => create("inlet_bound", MapType::Array, Self::BOUND, 1, 0),
            Some(map) => Ok(map),
        };
        let changes = || match taken(&before.changes(), 4)? {
            None => create("inlet_changes", MapType::Array, 4, 1, 0),
            Some(map) => Ok(map),
        };
        let counters = || match taken(&before.counters(), Self::COUNTERS)? {
            None => create("inlet_answers", MapType::PercpuArray, Self::COUNTERS, 1, 0),
            Some(map) => Ok(map),
        };
        let client_ports = || match taken(&before.client_ports(), Self::CLIENT_PORTS)? {
            None => create("inlet_client_ports", MapType::Array, Self::CLIENT_PORTS, 1, 0),
            Some(map) => Ok(map),
        };
        let asking = || match taken(&before.asking(), Self::ASKING)? {
            None => create("inlet_asking", MapType::Array, Self::ASKING, 1, 0),
            Some(map) => Ok(map),
        };
        let clients = || match taken(&before.clients(), Self::CLIENT[1])? {
            None => create_keyed("inlet_clients", MapType::LruHash, Self::CLIENT, MAX_QUESTIONS, 0),
            Some(map) => Ok(map),
        };
        let maps = Self {
            flows: kept(&files.flows(), &|| create_keyed(name, MapType::LruHash, keyed, max_flows, 0))?,
            bound: kept(&files.bound(), &bound)?,
            counters: kept(&files.counters(), &counters)?,
            covered: kept(&files.covered(), &|| create("inlet_covered", MapType::Array, Self::COVERED, 1, 0))?,
            changes: kept(&files.changes(), &changes)?,
            handed: kept(&files.handed(), &|| create("inlet_handed", MapType::PercpuArray, Self::HANDED, 1, 0))?,
            client_ports: kept(&files.client_ports(), &client_ports)?,
            asking: kept(&files.asking(), &asking)?,
            clients: kept(&files.clients(), &clients)?,
        };
        maps.take_flows(before)?;
        Ok(maps)
    }

    /// Says at which ports questions of clients are noted.
    pub(crate) fn note_clients(&self, ports: &[PortRange]) -> Result<()> {
        let all = ports.iter().flat_map(|range| range.first()..=range.last());
        let written = self.client_ports.update(&0_u32.to_ne_bytes(), &bits(all.map(usize::from)), MapFlags::ANY);
        written.map_err(Error::os("write", "the ports of clients"))
    }

    /// Takes the flows over that are only in the table before.
    pub(crate) fn take_flows(&self, before: &AnswerFiles) -> Result<()> {
        if !is_there(&before.flows())? {
            return Ok(());
        }
        let old = open_map(&before.flows(), Access::Read)?;
        if old.value_size() == self.flows.value_size() { copy_entries(&old, &self.flows) } else { Ok(()) }
    }

    /// Whether there are maps that have another size or form than they should.
    pub(crate) fn differ(files: &AnswerFiles, max_flows: u32) -> Result<bool> {
        if !is_there(&files.flows())? || !is_there(&files.counters())? {
            return Ok(false);
        }
        let (flows, counters) = (open_map(&files.flows(), Access::Read)?, open_map(&files.counters(), Access::Read)?);
        let sizes = (flows.max_entries(), flows.value_size(), counters.value_size());
        Ok(sizes != (max_flows, Self::KEYED[1], Self::COUNTERS))
    }
}

/// A set of numbers as the programs read it: by their lower 16 bits.
fn bits(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
    let (mut words, bits) = ([0_u64; WORDS], u64::BITS as usize);
    for number in numbers {
        let at = number % (WORDS * bits);
        words[at / bits] |= 1 << (at % bits);
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Says which interfaces have the program that sets ports, by their indexes. An instance of an earlier version has no such map
/// until its next change.
pub(crate) fn set_covered(files: &AnswerFiles, interfaces: &[u32]) -> Result<()> {
    if !is_there(&files.covered())? {
        return Ok(());
    }
    let value = bits(interfaces.iter().map(|index| *index as usize));
    let map = open_map(&files.covered(), Access::Write)?;
    map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY).map_err(Error::at("write", &files.covered()))
}

/// How full the table of noted flows is.
pub(crate) fn answer_table(files: &AnswerFiles, counters: &AnswerCounters) -> Result<FlowTable> {
    FlowTable::of(&open_map(&files.flows(), Access::Read)?, counters.noted + counters.apart)
}

/// Reads the counters of an instance whose program notes flows.
pub(crate) fn answer_counters(files: &AnswerFiles) -> Result<AnswerCounters> {
    let map = open_map(&files.counters(), Access::Read)?;
    let per_cpu = map.lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY);
    let values = per_cpu.map_err(Error::at("read", &files.counters()))?.unwrap_or_default();
    let sum = |offset: usize| -> u64 {
        let field = |value: &Vec<u8>| value.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
        values.iter().filter_map(field).map(u64::from_ne_bytes).sum()
    };
    Ok(AnswerCounters {
        noted: sum(offset_of!(types::answer_counters, noted)),
        ambiguous: sum(offset_of!(types::answer_counters, changed)),
        unnoted: sum(offset_of!(types::answer_counters, unnoted)),
        addressed: sum(offset_of!(types::answer_counters, addressed)),
        rewritten: sum(offset_of!(types::answer_counters, rewritten)),
        // Counted when they are sent, and taken back when they leave elsewhere.
        uncovered: sum(offset_of!(types::answer_counters, bare))
            .saturating_sub(sum(offset_of!(types::answer_counters, bare_set))),
        passed: sum(offset_of!(types::answer_counters, passed)),
        apart: sum(offset_of!(types::answer_counters, apart)),
    })
}
