//! Writes an image in parts. Each part can be written on its own, also by another thread.

use super::Image;
use super::search::Searches;
use crate::image::format::{HEADER_WORDS, Header};
use crate::image::stored::Encoded;

/// A part of an image and where it is to be written.
#[derive(Debug)]
pub struct Part<'a> {
    to: &'a mut [u32],
    from: From<'a>,
}

#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Header(&'a Header),
    Words(&'a [u32]),
    Source(&'a Encoded<'a>),
}

impl Part<'_> {
    /// How many words it takes.
    pub fn words(&self) -> usize {
        self.to.len()
    }

    /// Writes it.
    pub fn write(self) {
        match self.from {
            From::Header(header) => self.to.copy_from_slice(&header.encode()),
            From::Words(words) => self.to.copy_from_slice(words),
            From::Source(source) => source.write(self.to),
        }
    }
}

impl Image<'_> {
    /// The parts of the image. `out` has [`Image::words`] words, all of them 0.
    ///
    /// # Panics
    /// When `out` is shorter.
    pub fn parts<'a>(&'a self, out: &'a mut [u32]) -> Vec<Part<'a>> {
        let Header { index, blocks32, blocks128, v4, v6, cells, ranges, chain, source, .. } = self.header;
        let Searches { index: nodes, blocks32: short, blocks128: long, .. } = &self.searches;
        // In the order of their offsets.
        let areas = [
            (0, HEADER_WORDS, From::Header(&self.header)),
            (index, nodes.len(), From::Words(nodes)),
            (blocks32, short.len(), From::Words(short)),
            (blocks128, long.len(), From::Words(long)),
            (v4.windows, self.v4.windows.len(), From::Words(&self.v4.windows)),
            (v6.windows, self.v6.windows.len(), From::Words(&self.v6.windows)),
            (v4.buckets, self.v4.kept.len(), From::Words(self.v4.kept)),
            (v4.buckets + self.v4.kept.len() as u32, self.v4.buckets.len(), From::Words(&self.v4.buckets)),
            (v6.buckets, self.v6.kept.len(), From::Words(self.v6.kept)),
            (v6.buckets + self.v6.kept.len() as u32, self.v6.buckets.len(), From::Words(&self.v6.buckets)),
            (cells, self.cells.len(), From::Words(&self.cells)),
            (ranges, self.ranges.len(), From::Words(&self.ranges)),
            (chain, self.chain.len(), From::Words(&self.chain)),
            (source, self.source.words(), From::Source(&self.source)),
        ];
        let (mut left, mut at) = (out, 0);
        let part = |(offset, words, from): (u32, usize, From<'a>)| {
            let (_, after) = std::mem::take(&mut left).split_at_mut(offset as usize - at);
            let (to, after) = after.split_at_mut(words);
            (left, at) = (after, offset as usize + words);
            Part { to, from }
        };
        areas.into_iter().map(part).collect()
    }

    /// Writes the image to `out`, as [`Image::parts`] does.
    ///
    /// # Panics
    /// When `out` is shorter.
    pub fn write(&self, out: &mut [u32]) {
        self.parts(out).into_iter().for_each(Part::write);
    }

    /// The image in a new vector.
    pub fn to_words(&self) -> Vec<u32> {
        let mut words = vec![0; self.words()];
        self.write(&mut words);
        words
    }
}
