//! The format of the image: what the compiler writes, and what [`Walk`](super::Walk) and the kernel program read.
//!
//! This is the twin of `format.bpf.h` in crate `inlet`. A constant that both have bears the same name in both, and
//! crate `inlet` asserts at compile time that the values are equal. The tables in [`image`](super) tell where each part
//! lies.

mod address;
mod header;
mod key;
mod leaf;
mod source;
mod span;

pub(super) use address::{Address, Local};
pub use header::{FORMAT, FORMAT_WITH_MARKS, HEADER_WORDS, Header, HeaderError, Root};
pub(super) use header::{from_words, to_words};
pub(super) use key::{Key, port_key};
pub use leaf::{Leaf, Outcome};
pub(super) use source::source_of;
pub(super) use span::Span;

/// In an entry of a search: how far its kind is shifted left. The bits below are an offset.
pub const ENTRY_SHIFT: u32 = 30;
/// Kind of an entry: the offset is that of a node. Kinds 0 to 2: the offset is a block, and so many more blocks follow.
pub const ENTRY_NODE: u32 = 3;

/// The words of a node before its entries.
pub const NODE_WORDS: usize = 6;
/// In the second word of a node and the third of a window: the bits of the shift.
pub const SHIFT: u32 = 0x3f;
/// In the second word of a node and the third of an IPv6 window: the keys are told apart by their low 64 bits.
pub const LOW_HALF: u32 = 1 << 8;
/// In the second word of a node: its blocks are to be bisected.
pub const NODE_BISECT: u32 = 1 << 9;
/// How many levels of nodes a search has at most. The last level is bisected.
pub const MAX_LEVELS: u32 = 7;

/// The words of a value: port table and link of a local address, or a leaf.
pub const VALUE_WORDS: usize = 2;
/// The words of a block: two cache lines.
pub const BLOCK_WORDS: usize = 32;
/// How many 32-bit keys a block holds.
pub const BLOCK32_KEYS: usize = 10;
/// How many 128-bit keys a block holds.
pub const BLOCK128_KEYS: usize = 5;

/// The words of an IPv4 window.
pub const WINDOW4_WORDS: usize = 4;
/// The words of an IPv6 window.
pub const WINDOW6_WORDS: usize = 8;

/// How many prefixes a bucket holds.
pub const PREFIXES: usize = 4;
/// The words of an IPv4 bucket.
pub const BUCKET4_WORDS: usize = 16;
/// The words of an IPv6 bucket.
pub const BUCKET6_WORDS: usize = 32;
/// The word of a bucket that leads to further prefixes. The values come before it.
pub const BUCKET_MORE: usize = 10;
/// The word of an IPv4 bucket with the shifts, one byte for each prefix.
pub const BUCKET4_SHIFT: usize = 11;
/// The first key of an IPv4 bucket.
pub const BUCKET4_KEY: usize = 12;
/// The word of an IPv6 bucket with the shifts of the high halves.
pub const BUCKET6_HIGH_SHIFT: usize = 12;
/// The word of an IPv6 bucket with the shifts of the low halves.
pub const BUCKET6_LOW_SHIFT: usize = 13;
/// The first key of an IPv6 bucket.
pub const BUCKET6_KEY: usize = 16;
/// The bit of a shift in an IPv6 bucket that says: no bit of this half counts.
pub const NOTHING: u32 = 7;
/// In [`BUCKET_MORE`]: the rest is the cell of a search. Without it, the rest is the number of another bucket.
pub const MORE_SEARCH: u32 = 1 << 31;

/// In the number of a port table: the rest is the cell of a search.
pub const PORTS_LARGE: u32 = 1 << 31;
/// In the number of a port table: the rest is the number of its only range.
pub const PORTS_ONE: u32 = 1 << 30;
/// In the number of a port table: the rest is the numbers of its two ranges, the second above [`RANGE_BITS`]. The first
/// may lie inside the second.
pub const PORTS_TWO: u32 = 1 << 29;
/// How many bits each number has in a table of two ranges.
pub const RANGE_BITS: u32 = 14;
/// The bit of a range's leaf that says: the ports are those of UDP. The numbers of leaves lie below it.
pub const RANGE_UDP: u32 = 28;
/// How many ranges a port table of one cache line has: that many first ports, then that many leaves.
pub const SMALL_RANGES: usize = 8;
/// In [`Header::port_tables`]: there are tables of one range.
pub const HAS_ONE: u32 = 1;
/// In [`Header::port_tables`]: there are tables of two ranges.
pub const HAS_TWO: u32 = 2;
/// In [`Header::port_tables`]: there are tables of one cache line.
pub const HAS_SMALL: u32 = 4;
/// In [`Header::port_tables`]: there are tables that are searched.
pub const HAS_LARGE: u32 = 8;

/// In the number of a leaf of a service: the SO_REUSEPORT group of the socket chooses again.
pub const LEAF_GROUP: u32 = 4096;
/// In the number of a leaf of a service: answers leave from where its socket is bound, so nothing is noted for them.
pub const LEAF_BOUND_ANSWERS: u32 = 8192;
/// In the number of a leaf of a service: how far the seconds are shifted left for which flows over UDP stay.
pub const LEAF_STICKY: u32 = 14;
/// In a leaf: how far its kind is shifted left. The bits below are its number.
pub const LEAF_SHIFT: u32 = 29;
/// Kind of a leaf: no rule matches.
pub const LEAF_MISS: u32 = 0;
/// Kind of a leaf: the kernel's ordinary lookup decides.
pub const LEAF_PASS: u32 = 1;
/// Kind of a leaf: refuse.
pub const LEAF_REFUSE: u32 = 2;
/// Kind of a leaf: the service of this number; without a live socket, refuse.
pub const LEAF_SERVICE_OR_REFUSE: u32 = 3;
/// Kind of a leaf: the service of this number; without a live socket, pass.
pub const LEAF_SERVICE_OR_PASS: u32 = 4;
/// Kind of a leaf: search the source address; the number is the cell of that search.
pub const LEAF_BY_SOURCE: u32 = 5;
/// Kind of a leaf: search the interface; the number is the cell of that search.
pub const LEAF_BY_IFACE: u32 = 6;

/// Kind of a leaf: search the mark; the number is the first of the three cells of that search.
pub const LEAF_BY_MARK: u32 = 7;
/// In the cells of a search by mark: the bits that count. The first cell is the entry.
pub const MARK_MASK: u32 = 1;
/// In the cells of a search by mark: the leaf for packets whose mark is unknown.
pub const MARK_UNKNOWN: u32 = 2;

/// How many searches by source, interface or mark one port may need.
pub const MAX_STEPS: u32 = 32;
/// How many nested prefixes one packet may be looked up in: every length of IPv6.
pub const MAX_HOPS: usize = 129;
