//! The image compiler.

use super::conditions::Conditions;
use super::layout::{HEADER_WORDS, Header, Root};
use super::search::{BLOCK_WORDS, Key, Searches};
use super::source;
use super::sweep::Sweep;
use super::tables::{MAX_STEPS, SMALL_WORDS, Tables, TooManySteps};
use crate::entry::{Entry, Entry4, Entry6};
use crate::{Prefix, Ruleset};

/// How many prefixes around one address the program goes through at most: every length of IPv6.
const MAX_HOPS: usize = 129;
/// How much of the image the program can search: the verifier allows offsets below 512 MiB.
const MAX_SEARCH_WORDS: usize = (1 << 29) / 4 - BLOCK_WORDS;

/// Why a ruleset does not become an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The rules of one prefix would need too many conditions searched one after the other.
    #[error(
        "rules of {0}: more than {MAX_STEPS} port ranges with conditions on source or interface overlap; use fewer or add a rule without conditions"
    )]
    TooManySteps(Prefix),
    /// The image is larger than the program can search.
    #[error("the ruleset needs {0} MiB to search and at most 512 fit; use fewer rules or shorter lists")]
    TooLarge(usize),
}

/// A compiled ruleset, in parts. [`Image::write`] puts them together.
#[derive(Debug)]
pub struct Image<'a> {
    header: Header,
    searches: Searches,
    cells: Vec<u32>,
    chain: Vec<u32>,
    source: source::Encoded<'a>,
}

/// Compiles a ruleset.
///
/// # Errors
/// [`ImageError`] when the program could not search the image.
pub fn compile(ruleset: &Ruleset) -> Result<Image<'_>, ImageError> {
    let mut compiler = Compiler { tables: Tables::new(ruleset), chain: vec![0; 2], hops: 0 };
    let v4 = compiler.family::<u32, Entry4>(&ruleset.v4)?;
    let v6 = compiler.family::<u128, Entry6>(&ruleset.v6)?;
    let Compiler { tables, chain, hops } = compiler;
    let Tables { searches, cells, conditions: Conditions { levels, .. }, .. } = &tables;
    let mut header = Header {
        hops: hops as u32,
        steps: tables.steps,
        levels: tables.levels.max(*levels),
        large_ports: tables.large.into(),
        bisect: searches.bisect.into(),
        v4,
        v6,
        ..Header::default()
    };
    let source = source::encode(ruleset);
    place(&mut header, [&searches.index, &searches.blocks32, &searches.blocks128, cells, &chain], source.words())?;
    let Tables { searches, cells, .. } = tables;
    Ok(Image { header, searches, cells, chain, source })
}

/// Puts the areas in order, blocks and cells on borders of cache lines (of two, for blocks).
fn place(header: &mut Header, areas: [&Vec<u32>; 5], source: usize) -> Result<(), ImageError> {
    let [index, blocks32, blocks128, cells, chain] = areas.map(Vec::len);
    let index_at = HEADER_WORDS;
    let blocks32_at = (index_at + index).next_multiple_of(BLOCK_WORDS);
    let blocks128_at = blocks32_at + blocks32;
    let cells_at = blocks128_at + blocks128;
    let chain_at = (cells_at + cells).next_multiple_of(SMALL_WORDS);
    let search_words = chain_at + chain;
    // Room after the end, so that a whole block can be read from every place that is searched.
    let source_at = (search_words + BLOCK_WORDS).next_multiple_of(BLOCK_WORDS);
    if search_words > MAX_SEARCH_WORDS {
        return Err(ImageError::TooLarge((search_words * 4) >> 20));
    }
    let too_large = |_| ImageError::TooLarge(((source_at + source) * 4) >> 20);
    header.words = u32::try_from(source_at + source).map_err(too_large)?;
    header.index = index_at as u32;
    header.blocks32 = blocks32_at as u32;
    header.blocks128 = blocks128_at as u32;
    header.cells = cells_at as u32;
    header.chain = chain_at as u32;
    header.search_words = search_words as u32;
    header.source = source_at as u32;
    Ok(())
}

struct Compiler<'a> {
    tables: Tables<'a>,
    /// Pairs of ports and next. The first stands for none.
    chain: Vec<u32>,
    hops: usize,
}

impl Compiler<'_> {
    fn family<K: Key, E: Entry>(&mut self, entries: &[E]) -> Result<Root, ImageError> {
        if entries.is_empty() {
            return Ok(Root::default());
        }
        let mut sweep = Sweep::<K>::new([0, 0], 2 * entries.len() + 1);
        // Per open prefix, the place of its value in the chain; 0 when it has none yet.
        let mut links: Vec<u32> = Vec::with_capacity(MAX_HOPS);
        for group in entries.chunk_by(|a, b| a.same_local(*b)) {
            let local = group[0].local();
            let too_many = |_: TooManySteps| ImageError::TooManySteps(local);
            let ports = self.tables.of(group.iter().map(|entry| entry.shape())).map_err(too_many)?;
            let (first, last) = K::bounds(local);
            let (outer, open) = sweep.advance(first);
            links.truncate(open);
            let next = links.last_mut().map_or(0, |link| self.link(link, outer));
            sweep.enter(first, last, [ports, next]);
            links.push(0);
        }
        self.hops = self.hops.max(sweep.deepest);
        let added = self.tables.searches.add(&sweep.finish());
        Ok(self.tables.searches.root(added))
    }

    /// The place in the chain of a prefix that has others inside it.
    fn link(&mut self, link: &mut u32, value: [u32; 2]) -> u32 {
        if *link == 0 {
            *link = (self.chain.len() / 2) as u32;
            self.chain.extend(value);
        }
        *link
    }
}

impl Image<'_> {
    /// The header: what the program is specialised for.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many words the image takes.
    pub fn words(&self) -> usize {
        self.header.words as usize
    }

    /// Writes the image to `out`, which has [`Image::words`] words, all of them 0.
    ///
    /// # Panics
    /// When `out` is shorter.
    pub fn write(&self, out: &mut [u32]) {
        let Header { index, blocks32, blocks128, cells, chain, source, .. } = self.header;
        out[..HEADER_WORDS].copy_from_slice(&self.header.encode());
        let Searches { index: nodes, blocks32: short, blocks128: long, .. } = &self.searches;
        let areas = [(index, nodes), (blocks32, short), (blocks128, long), (cells, &self.cells), (chain, &self.chain)];
        for (at, area) in areas {
            out[at as usize..at as usize + area.len()].copy_from_slice(area);
        }
        self.source.write(&mut out[source as usize..]);
    }

    /// The image in a vector of its own.
    pub fn to_words(&self) -> Vec<u32> {
        let mut words = vec![0; self.words()];
        self.write(&mut words);
        words
    }
}
