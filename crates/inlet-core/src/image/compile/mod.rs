//! The image compiler.

mod buckets;
mod compiler;
mod conditions;
mod ranges;
mod recompile;
mod search;
mod sweep;
mod tables;
mod write;

use std::borrow::Cow;
use std::cell::OnceCell;

use self::buckets::{Buckets, Made};
use self::compiler::COMPILER;
use self::conditions::Conditions;
use self::ranges::of_rules;
use self::search::{Interval, Searches};
use self::tables::{SMALL_WORDS, Tables, TooManySteps};
use super::format::{Address, BLOCK_WORDS, HEADER_WORDS, Header, Local, MAX_HOPS, MAX_STEPS};
use super::stored;
use crate::rule::{Prefix, Remedy};
use crate::ruleset::{Entry, Entry4, Entry6, Ruleset};
use crate::threads::{MANY, join};

pub use self::recompile::{Compiled, recompile};
pub use self::write::Part;

/// From this many nested prefixes on, one table may stand for several of them.
const DEEP: usize = 8;
/// The most words that the program can search: the verifier allows offsets below 512 MiB.
const MAX_SEARCH_WORDS: usize = (1 << 29) / 4 - BLOCK_WORDS;

/// A smaller image is made long enough that one mask bounds every offset. Then the verifier has one case for each
/// offset and not two.
const MASKED: usize = 1 << 18;

/// Why a ruleset cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The rules of one prefix would need too many conditions searched one after the other.
    #[error(
        "rules of {0}: more than {MAX_STEPS} port ranges and masks with conditions on source, interface or mark overlap"
    )]
    TooManySteps(Prefix),
    /// The image is larger than the program can search.
    #[error("the ruleset needs {0} MiB to search and at most 512 fit")]
    TooLarge(usize),
}

impl Remedy for ImageError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::TooManySteps(_) => "use fewer or add a rule without conditions".into(),
            Self::TooLarge(_) => "use fewer rules or shorter lists".into(),
        })
    }
}

/// A compiled ruleset in parts. [`Image::write`] joins them.
#[derive(Debug)]
pub struct Image<'a> {
    header: Header,
    searches: Searches,
    v4: Made<'a>,
    v6: Made<'a>,
    cells: Vec<u32>,
    ranges: Vec<u32>,
    chain: Vec<u32>,
    source: stored::Encoded<'a>,
}

/// Compiles a ruleset.
///
/// # Errors
/// [`ImageError`] when the program could not search the image.
pub fn compile(ruleset: &Ruleset) -> Result<Image<'_>, ImageError> {
    let mut compiler = Compiler { tables: Tables::new(ruleset), chain: vec![0; 2], hops: 0 };
    let locals = compiler.family::<u32, Entry4>(&ruleset.v4)?;
    let v6 = || Ok(Buckets::make(&compiler.family::<u128, Entry6>(&ruleset.v6)?));
    let (v4, v6) = join(locals.len() >= MANY, || Buckets::make(&locals), v6);
    drop(locals);
    compiler.finish(v4, v6?, None)
}

/// A prefix that may have others inside it.
struct Open<'a, K, E> {
    last: K,
    rules: &'a [E],
    /// Its ranges of ports, computed when first needed; `None` when it has many rules or rules with conditions.
    ranges: OnceCell<Option<Vec<Interval<u32>>>>,
    value: [u32; 2],
    /// The number of its value in the chain; 0 when it has none yet.
    link: u32,
}

impl<K, E: Entry> Open<'_, K, E> {
    fn ranges(&self, ruleset: &Ruleset) -> Option<&[Interval<u32>]> {
        self.ranges.get_or_init(|| of_rules(ruleset, self.rules)).as_deref()
    }
}

/// The state of a compilation.
struct Compiler<'a> {
    tables: Tables<'a>,
    /// Port table and link of each prefix that has others inside it. The first pair means: no prefix.
    chain: Vec<u32>,
    hops: usize,
}

impl<'a> Compiler<'a> {
    /// Joins all parts. `whole` is `search_words` of the last image that was compiled whole, unless this one is.
    fn finish(self, v4: Buckets<'a, u32>, v6: Buckets<'a, u128>, whole: Option<u32>) -> Result<Image<'a>, ImageError> {
        let Self { mut tables, chain, hops } = self;
        let v4 = v4.finish(&mut tables.searches, &mut tables.cells);
        let v6 = v6.finish(&mut tables.searches, &mut tables.cells);
        let Tables { ruleset, searches, cells, ranges, conditions: Conditions { levels, .. }, .. } = tables;
        let header = Header {
            hops: hops as u32,
            steps: tables.steps,
            levels: [tables.levels, levels, v4.levels, v6.levels].into_iter().max().unwrap_or(0),
            port_tables: tables.kinds,
            bisect: searches.bisect.into(),
            compiler: COMPILER,
            marks: ruleset.shapes.iter().any(|shape| shape.mark.is_some()).into(),
            v4: v4.root,
            v6: v6.root,
            ..Header::default()
        };
        let mut image = Image { header, searches, v4, v6, cells, ranges, chain, source: stored::encode(ruleset) };
        image.lay_out()?;
        image.header.whole_words = whole.unwrap_or(image.header.search_words);
        Ok(image)
    }

    /// The local prefixes of a family with their values.
    fn family<K: Address, E: Entry>(&mut self, entries: &[E]) -> Result<Vec<Local<K>>, ImageError> {
        let mut locals: Vec<Local<K>> = Vec::with_capacity(entries.len());
        let mut open: Vec<Open<'_, K, E>> = Vec::with_capacity(MAX_HOPS);
        for group in entries.chunk_by(|a, b| a.same_local(*b)) {
            locals.push(self.local(group, &mut open)?);
        }
        Ok(locals)
    }

    /// The local prefix of some rules, with its value.
    ///
    /// The open prefixes are those around the previous prefix in address order. Afterwards this prefix is open too.
    fn local<'e, K: Address, E: Entry>(
        &mut self,
        rules: &'e [E],
        open: &mut Vec<Open<'e, K, E>>,
    ) -> Result<Local<K>, ImageError> {
        let too_many = |_: TooManySteps| ImageError::TooManySteps(rules[0].local());
        let ports = self.tables.of(rules).map_err(too_many)?;
        let (bits, len) = rules[0].local_bits();
        let first = K::of_bits(bits);
        let last = first.last_of(len);
        close_before(first, open);
        let next = self.link(open);
        let value = [ports, next];
        open.push(Open { last, rules, ranges: OnceCell::new(), value, link: 0 });
        self.hops = self.hops.max(open.len());
        Ok(Local { first, last, len, value })
    }

    /// The number in the chain of the innermost open prefix; 0 when none is open.
    fn link<K, E: Entry>(&mut self, open: &mut [Open<'_, K, E>]) -> u32 {
        let Some(inner) = open.last() else { return 0 };
        if inner.link != 0 {
            return inner.link;
        }
        let value = self.shortcut(open).unwrap_or(inner.value);
        let link = (self.chain.len() / 2) as u32;
        self.chain.extend(value);
        open[open.len() - 1].link = link;
        link
    }

    /// One table and link that stand for the innermost of many nested prefixes and for some around it. So a packet that
    /// none of them matches does not go through all. The table joins as many prefixes as fit into a cache line.
    fn shortcut<K, E: Entry>(&mut self, open: &[Open<'_, K, E>]) -> Option<[u32; 2]> {
        if open.len() < DEEP {
            return None;
        }
        let ruleset = self.tables.ruleset;
        let (ports, together) = self.tables.of_nested(open.iter().rev().map(|prefix| prefix.ranges(ruleset)))?;
        Some([ports, open[open.len() - together].value[1]])
    }
}

/// Closes the prefixes that end before this address.
fn close_before<K: Ord, E>(addr: K, open: &mut Vec<Open<'_, K, E>>) {
    while open.pop_if(|outer| outer.last < addr).is_some() {}
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

    /// Sets the offsets of all areas. Blocks, buckets and tables begin at cache lines; what has two lines begins at
    /// every second one.
    fn lay_out(&mut self) -> Result<(), ImageError> {
        let Self { searches, v4, v6, cells, ranges, chain, source, .. } = &*self;
        let index = HEADER_WORDS;
        let blocks32 = (index + searches.index.len()).next_multiple_of(BLOCK_WORDS);
        let blocks128 = blocks32 + searches.blocks32.len();
        let windows4 = blocks128 + searches.blocks128.len();
        let windows6 = (windows4 + v4.windows.len()).next_multiple_of(<u128 as Address>::WINDOW);
        let buckets4 = (windows6 + v6.windows.len()).next_multiple_of(<u32 as Address>::BUCKET);
        let buckets6 = (buckets4 + v4.bucket_words()).next_multiple_of(<u128 as Address>::BUCKET);
        let cells_at = buckets6 + v6.bucket_words();
        let ranges_at = (cells_at + cells.len()).next_multiple_of(SMALL_WORDS);
        let chain_at = (ranges_at + ranges.len()).next_multiple_of(SMALL_WORDS);
        let search_words = chain_at + chain.len();
        // Leave room at the end: the program may read a whole block from every offset that it searches.
        let source_at = (search_words + BLOCK_WORDS).next_multiple_of(BLOCK_WORDS);
        let mask = search_words.next_power_of_two() - 1;
        let masked = mask + 1 + BLOCK_WORDS;
        let words = match search_words {
            ..MASKED => masked.max(source_at + source.words()),
            _ => source_at + source.words(),
        };
        if search_words > MAX_SEARCH_WORDS {
            return Err(ImageError::TooLarge((search_words * 4) >> 20));
        }
        let header = &mut self.header;
        header.words = u32::try_from(words).map_err(|_| ImageError::TooLarge((words * 4) >> 20))?;
        (header.v4.windows, header.v6.windows) = (windows4 as u32, windows6 as u32);
        (header.v4.buckets, header.v6.buckets) = (buckets4 as u32, buckets6 as u32);
        [header.index, header.blocks32, header.blocks128] = [index, blocks32, blocks128].map(|at| at as u32);
        [header.cells, header.ranges] = [cells_at, ranges_at].map(|at| at as u32);
        [header.chain, header.source] = [chain_at, source_at].map(|at| at as u32);
        header.search_words = search_words as u32;
        header.search_mask = if masked <= words { mask as u32 } else { 0 };
        Ok(())
    }
}
