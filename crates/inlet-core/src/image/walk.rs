//! Searches an image in plain Rust, step by step as the kernel program does.
//!
//! So the format is tested without a kernel, and any machine can tell what the program would answer. When this file and
//! `search.bpf.h`, `local.bpf.h` or `lookup.bpf.h` differ, one of them is wrong.

use std::net::IpAddr;

use super::format::{
    Address, BLOCK_WORDS, BUCKET_MORE, ENTRY_NODE, ENTRY_SHIFT, HAS_LARGE, HAS_ONE, HAS_SMALL, HAS_TWO, Header,
    HeaderError, Key, LEAF_BY_IFACE, LEAF_BY_MARK, LEAF_BY_SOURCE, LOW_HALF, Leaf, MARK_MASK, MARK_UNKNOWN,
    MORE_SEARCH, NODE_BISECT, NODE_WORDS, Outcome, PORTS_LARGE, PORTS_ONE, PORTS_TWO, PREFIXES, RANGE_BITS, Root,
    SHIFT, SMALL_RANGES, Span, VALUE_WORDS, from_words, port_key,
};
use crate::rule::Packet;

/// An image ready to be searched.
pub struct Walk<'a> {
    words: &'a [u32],
    header: Header,
}

impl<'a> Walk<'a> {
    /// Reads the header of an image.
    ///
    /// # Errors
    /// Those of [`Header::decode`].
    pub fn new(words: &'a [u32]) -> Result<Self, HeaderError> {
        Ok(Self { words, header: Header::decode(words)? })
    }

    /// What the program does with the packet.
    pub fn lookup(&self, packet: &Packet) -> Outcome {
        let key = port_key(packet.protocol, packet.local.port());
        let mut value = match packet.local.ip() {
            IpAddr::V4(addr) => self.local(&self.header.v4, addr.to_bits()),
            IpAddr::V6(addr) => self.local(&self.header.v6, addr.to_bits()),
        };
        for _ in 0..self.header.hops {
            let [ports, next] = value;
            if ports == 0 {
                break;
            }
            let leaf = self.resolve(self.ports(ports, key), packet);
            if leaf != Leaf::MISS {
                return leaf.outcome().unwrap_or(Outcome::Miss);
            }
            if next == 0 {
                break;
            }
            value = self.pair(self.header.chain, next);
        }
        Outcome::Miss
    }

    fn pair(&self, area: u32, number: u32) -> [u32; 2] {
        let at = (area + 2 * number) as usize;
        [self.words[at], self.words[at + 1]]
    }

    /// The value of a local address.
    fn local<K: Address>(&self, root: &Root, key: K) -> [u32; 2] {
        if root.used == 0 {
            return [0, 0];
        }
        let bucket = match root.pieces {
            0 => 0,
            _ => {
                let window = &self.words[root.windows as usize + root.span().at(key) * K::WINDOW..];
                window[0] as usize + K::read_span(window).at(key)
            }
        };
        self.in_bucket(root, bucket, key)
    }

    fn in_bucket<K: Address>(&self, root: &Root, bucket: usize, key: K) -> [u32; 2] {
        let bucket = &self.words[root.buckets as usize + bucket * K::BUCKET..];
        let found = (0..PREFIXES).find(|slot| key.is_in(bucket, *slot));
        match (found, if root.more != 0 { bucket[BUCKET_MORE] } else { 0 }) {
            (None, more) if more & MORE_SEARCH != 0 => self.search(self.cell(more & !MORE_SEARCH), key),
            (None, more) if more != 0 => self.in_bucket(root, more as usize, key),
            (slot, _) => {
                let value = VALUE_WORDS * slot.unwrap_or(PREFIXES);
                [bucket[value], bucket[value + 1]]
            }
        }
    }

    fn index(&self, offset: usize) -> u32 {
        self.words[self.header.index as usize + offset]
    }

    /// The value of the interval that the key is in.
    fn search<K: Key>(&self, mut entry: u32, key: K) -> [u32; 2] {
        for _ in 0..self.header.levels {
            if entry >> ENTRY_SHIFT != ENTRY_NODE {
                break;
            }
            let offset = (entry & ((1 << ENTRY_SHIFT) - 1)) as usize;
            let [count, flags] = [self.index(offset), self.index(offset + 1)];
            let first = from_words(self.index(offset + 2), self.index(offset + 3));
            if self.header.bisect != 0 && flags & NODE_BISECT != 0 {
                return self.in_block(self.bisect(first as usize, count as usize, key), key);
            }
            let high = (flags & LOW_HALF != 0).then(|| from_words(self.index(offset + 4), self.index(offset + 5)));
            let span = Span { first, shift: flags & SHIFT, pieces: count, high };
            entry = self.index(offset + NODE_WORDS + span.nearest(key));
        }
        let mut block = (entry & ((1 << ENTRY_SHIFT) - 1)) as usize;
        for _ in 0..entry >> ENTRY_SHIFT {
            if self.key::<K>(block + 1, 0) <= key {
                block += 1;
            }
        }
        self.in_block(block, key)
    }

    /// The last of `count` blocks from `first` on whose first key is not above the key.
    fn bisect<K: Key>(&self, mut first: usize, mut count: usize, key: K) -> usize {
        while count > 1 {
            let half = count / 2;
            if self.key::<K>(first + half, 0) <= key {
                first += half;
            }
            count -= half;
        }
        first
    }

    fn in_block<K: Key>(&self, block: usize, key: K) -> [u32; 2] {
        let rank = (1..K::PER_BLOCK).filter(|slot| self.key::<K>(block, *slot) <= key).count();
        let value = self.block::<K>(block) + K::PER_BLOCK * K::WORDS + 2 * rank;
        [self.words[value], self.words[value + 1]]
    }

    /// Where a block of keys of this kind begins.
    fn block<K: Key>(&self, block: usize) -> usize {
        let area = if K::BITS == 32 { self.header.blocks32 } else { self.header.blocks128 };
        area as usize + block * BLOCK_WORDS
    }

    fn key<K: Key>(&self, block: usize, slot: usize) -> K {
        K::read(&self.words[self.block::<K>(block) + slot * K::WORDS..])
    }

    fn cell(&self, offset: u32) -> u32 {
        self.words[(self.header.cells + offset) as usize]
    }

    fn ports(&self, table: u32, key: u32) -> Leaf {
        let may_be = |kind: u32| self.header.port_tables & kind != 0;
        if may_be(HAS_LARGE) && table & PORTS_LARGE != 0 {
            return Leaf(self.search(self.cell(table & !PORTS_LARGE), key)[0]);
        }
        if may_be(HAS_ONE) && table & PORTS_ONE != 0 {
            return self.range(table & !PORTS_ONE, key);
        }
        if may_be(HAS_TWO) && table & PORTS_TWO != 0 {
            let [first, second] = [table & ((1 << RANGE_BITS) - 1), (table & !PORTS_TWO) >> RANGE_BITS];
            return Some(self.range(first, key)).filter(|leaf| *leaf != Leaf::MISS).unwrap_or(self.range(second, key));
        }
        if !may_be(HAS_SMALL) {
            return Leaf::MISS;
        }
        let rank = (1..SMALL_RANGES as u32).filter(|slot| self.cell(table + slot) <= key).count() as u32;
        Leaf(self.cell(table + SMALL_RANGES as u32 + rank))
    }

    fn range(&self, number: u32, key: u32) -> Leaf {
        let [ports, leaf] = self.pair(self.header.ranges, number);
        let within = (ports & 0xffff..=ports >> 16).contains(&(key & 0xffff));
        Leaf(leaf).for_protocol(key >> 16).filter(|_| within).unwrap_or(Leaf::MISS)
    }

    /// Searches by source, interface and mark until the leaf is a verdict.
    fn resolve(&self, mut leaf: Leaf, packet: &Packet) -> Leaf {
        for _ in 0..self.header.steps {
            let found = match (leaf.kind(), packet.remote.ip()) {
                (LEAF_BY_SOURCE, IpAddr::V4(addr)) => self.search(self.cell(leaf.number()), addr.to_bits()),
                (LEAF_BY_SOURCE, IpAddr::V6(addr)) => self.search(self.cell(leaf.number()), addr.to_bits()),
                (LEAF_BY_IFACE, _) => self.search(self.cell(leaf.number()), packet.ifindex),
                (LEAF_BY_MARK, _) => match packet.mark {
                    Some(mark) => {
                        let mask = self.cell(leaf.number() + MARK_MASK);
                        self.search(self.cell(leaf.number()), mark & mask)
                    }
                    None => [self.cell(leaf.number() + MARK_UNKNOWN), 0],
                },
                _ => return leaf,
            };
            leaf = Leaf(found[0]);
        }
        leaf
    }
}
