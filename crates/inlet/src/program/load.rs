//! The BPF program: its constants, and how it is loaded.
//!
//! The constants are operands of instructions. In the object each is a placeholder that names a field of `struct
//! config` (format.bpf.h); the numbers are put there before libbpf sees the object.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use inlet_core::PortRange;
use inlet_core::image::{Header, format};
use libbpf_rs::{MapCore, MapHandle, ObjectBuilder, OpenObject, PrintLevel};

use crate::bpf::steer::types;
use crate::error::{Cause, Error, Result};
use crate::kernel::btf;
use crate::state::{AnswerMaps, FlowKey, Maps, StickyMaps};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// `CONSTANT_MARK` of format.bpf.h.
const MARK: u64 = 0x496e_6c65_7443_0000;
/// The first byte of an instruction that has a number of 64 bits, and the bytes of an instruction.
const LOAD_NUMBER: u8 = 0x18;
const INSTRUCTION: usize = 8;

/// Eight bytes each, in the places that the program names.
type Constants = [u64; size_of::<types::config>() / size_of::<u64>()];

macro_rules! constants {
    ($header:expr; $($($field:ident).+),+) => {{
        let mut constants: Constants = [0; size_of::<types::config>() / size_of::<u64>()];
        $(constants[offset_of!(types::config, $($field).+) / size_of::<u64>()] = $header.$($field).+.into();)+
        constants
    }};
}

fn constants(header: &Header, flow_key: FlowKey, shared: SharedMaps<'_>) -> Result<Constants> {
    let mut constants = constants!(header;
        search_words, search_mask, index, blocks32, blocks128, cells, ranges, chain, hops, steps, levels, port_tables, bisect, marks,
        v4.used, v4.pieces, v4.shift, v4.low_half, v4.first, v4.high, v4.windows, v4.buckets, v4.more,
        v6.used, v6.pieces, v6.shift, v6.low_half, v6.first, v6.high, v6.windows, v6.buckets, v6.more);
    let at = offset_of!(types::config, flow_key) / size_of::<u64>();
    constants[at..at + flow_key.0.len()].copy_from_slice(&flow_key.0);
    constants[offset_of!(types::config, answers) / size_of::<u64>()] = shared.notes_flows.into();
    constants[offset_of!(types::config, clients) / size_of::<u64>()] = shared.passes_clients.into();
    constants[offset_of!(types::config, own_ports) / size_of::<u64>()] = shared
        .own_ports
        .map_or(0, |range| u64::from(range.first()) | (u64::from(range.last() - range.first()) + 1) << 16);
    if shared.sticky.is_some() {
        constants[offset_of!(types::config, sticky) / size_of::<u64>()] = 1;
        constants[offset_of!(types::config, cookie) / size_of::<u64>()] = cookie_word()?;
    }
    Ok(constants)
}

/// Which word of a socket is its cookie. The program reads `SOCKET_WORDS` of them (sticky.bpf.h).
fn cookie_word() -> Result<u64> {
    let (offset, word) = (btf::socket_cookie()?, size_of::<u64>() as u32);
    match offset.is_multiple_of(word) && offset / word < 16 {
        true => Ok((offset / word).into()),
        false => Err(without("cookie of a socket where it reads")),
    }
}

/// The format of the image has the same numbers in C and in Rust.
macro_rules! same_numbers {
    ($($name:ident)+) => {
        $(const _: () = assert!(types::image_format::$name.0 as u64 == format::$name as u64, stringify!($name));)+
    };
}

same_numbers! {
    ENTRY_SHIFT ENTRY_NODE NODE_WORDS SHIFT LOW_HALF NODE_BISECT MAX_LEVELS VALUE_WORDS BLOCK_WORDS BLOCK32_KEYS
    BLOCK128_KEYS WINDOW4_WORDS WINDOW6_WORDS PREFIXES BUCKET4_WORDS BUCKET6_WORDS BUCKET_MORE BUCKET4_SHIFT BUCKET4_KEY
    BUCKET6_HIGH_SHIFT BUCKET6_LOW_SHIFT BUCKET6_KEY NOTHING MORE_SEARCH PORTS_LARGE PORTS_ONE PORTS_TWO RANGE_BITS
    RANGE_UDP SMALL_RANGES HAS_ONE HAS_TWO HAS_SMALL HAS_LARGE LEAF_GROUP LEAF_BOUND_ANSWERS LEAF_STICKY LEAF_SHIFT LEAF_MISS LEAF_PASS
    LEAF_REFUSE LEAF_SERVICE_OR_REFUSE LEAF_SERVICE_OR_PASS LEAF_BY_SOURCE LEAF_BY_IFACE LEAF_BY_MARK MARK_MASK MARK_UNKNOWN
    MAX_STEPS MAX_HOPS
}

/// The object with numbers for all placeholders. The number of a placeholder is in two halves, each the last four bytes
/// of an instruction.
fn specialise(object: &[u8], constants: &Constants) -> Vec<u8> {
    let mut object = object.to_vec();
    let half = |at: &[u8]| at.try_into().map_or(0, u32::from_ne_bytes);
    for pair in 1..object.len() / INSTRUCTION {
        let Some(words) = object.get_mut((pair - 1) * INSTRUCTION..(pair + 1) * INSTRUCTION) else { break };
        let number = u64::from(half(&words[12..])) << 32 | u64::from(half(&words[4..8]));
        if words[0] == LOAD_NUMBER && number & !0xffff == MARK {
            let constant = constants[(number - MARK) as usize / size_of::<u64>()];
            words[4..8].copy_from_slice(&(constant as u32).to_ne_bytes());
            words[12..].copy_from_slice(&((constant >> 32) as u32).to_ne_bytes());
        }
    }
    object
}

/// What libbpf and the verifier said last, for the error that follows.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

fn keep_last_words(_: PrintLevel, text: String) {
    let Ok(mut words) = LAST_WORDS.lock() else { return };
    let kept = words.len().saturating_sub(2000);
    let from = words.char_indices().map(|(at, _)| at).find(|at| *at >= kept).unwrap_or(words.len());
    words.drain(..from);
    words.push_str(&text);
}

/// Does what loads programs. It is given what makes an error of libbpf one of ours, with what the verifier said.
pub(crate) fn loading<T>(load: impl FnOnce(&dyn Fn(libbpf_rs::Error) -> Error) -> Result<T>) -> Result<T> {
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep_last_words)));
    let last_words = || LAST_WORDS.lock().map(|mut words| std::mem::take(&mut *words)).unwrap_or_default();
    // What was said about an earlier program is not about this one.
    drop(last_words());
    load(&|error| Error::Load { cause: error.into_io(), log: last_words() })
}

/// An object in which something is missing that it always has.
pub(crate) fn without(what: &str) -> Error {
    Error::Load { cause: io::Error::other(format!("it has no {what}")), log: String::new() }
}

/// The maps that the program shares with others, and the ports that it closes, where a ruleset needs these.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SharedMaps<'a> {
    /// In which marks are handed over.
    pub(crate) marks: Option<&'a MapHandle>,
    /// In which it notes where flows ask, and finds what clients of the host asked.
    pub(crate) answers: Option<&'a AnswerMaps>,
    /// Whether it notes where flows ask.
    pub(crate) notes_flows: bool,
    /// Whether it lets answers to clients pass.
    pub(crate) passes_clients: bool,
    /// By which flows stay on their sockets.
    pub(crate) sticky: Option<&'a StickyMaps>,
    /// The ports of programs with own binds, which only rules lead to.
    pub(crate) own_ports: Option<PortRange>,
}

/// Loads the program specialised for an image. An image with marks needs the map in which they are handed over.
pub(crate) fn load(header: &Header, image: &MapHandle, maps: &Maps, shared: SharedMaps<'_>) -> Result<OwnedFd> {
    if header.marks != 0 && shared.marks.is_none() {
        return Err(without("map of marks"));
    }
    let object = specialise(OBJECT, &constants(header, maps.flow_key, shared)?);
    loading(|failed| {
        let mut open = ObjectBuilder::default().open_memory(&object).map_err(failed)?;
        give_maps(&mut open, image, maps, shared).map_err(failed)?;
        let loaded = open.load().map_err(failed)?;
        let program = loaded.progs().find(|program| program.name() == "inlet_steer");
        let program = program.ok_or_else(|| without("program"))?;
        program.as_fd().try_clone_to_owned().map_err(Error::os("keep", "the program"))
    })
}

/// The maps that exist take the place of those that the object declares.
fn give_maps(open: &mut OpenObject, image: &MapHandle, maps: &Maps, shared: SharedMaps<'_>) -> libbpf_rs::Result<()> {
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        match name.as_str() {
            "inlet_sockets" => map.reuse_fd(maps.sockets.as_fd())?,
            "inlet_lanes" => map.reuse_fd(maps.lanes.as_fd())?,
            "inlet_counters" => map.reuse_fd(maps.counters.as_fd())?,
            "inlet_marks" if let Some(marks) = shared.marks => map.reuse_fd(marks.as_fd())?,
            "inlet_flows" if let Some(answers) = shared.answers => map.reuse_fd(answers.flows.as_fd())?,
            "inlet_bound" if let Some(answers) = shared.answers => map.reuse_fd(answers.bound.as_fd())?,
            "inlet_changes" if let Some(answers) = shared.answers => map.reuse_fd(answers.changes.as_fd())?,
            "inlet_answers" if let Some(answers) = shared.answers => map.reuse_fd(answers.counters.as_fd())?,
            "inlet_client_ports" if let Some(answers) = shared.answers => map.reuse_fd(answers.client_ports.as_fd())?,
            "inlet_asking" if let Some(answers) = shared.answers => map.reuse_fd(answers.asking.as_fd())?,
            "inlet_clients" if let Some(answers) = shared.answers => map.reuse_fd(answers.clients.as_fd())?,
            "inlet_stays" if let Some(sticky) = shared.sticky => map.reuse_fd(sticky.stays.as_fd())?,
            "inlet_leaving" if let Some(sticky) = shared.sticky => map.reuse_fd(sticky.leaving.as_fd())?,
            "inlet_stay_counts" if let Some(sticky) = shared.sticky => map.reuse_fd(sticky.counts.as_fd())?,
            section if section.ends_with(".bss.image") => {
                // libbpf has memory for the section, which it unmaps in the size that the map has then.
                map.set_value_size(image.value_size())?;
                map.reuse_fd(image.as_fd())?;
            }
            // The layout of the constants, which are not in memory, and the shared maps that no rule needs.
            _ => map.set_autocreate(false)?,
        }
    }
    Ok(())
}
