//! Compiles a ruleset from the image of a similar one.
//!
//! The answer at an address depends only on the prefixes around it. So a rule that is added or removed changes nothing
//! outside of its local prefix.
//!
//! The windows that the rule touches are made again, behind everything that the image has, with buckets, tables and
//! links of their own. All other windows stay. What the replaced windows used stays too, unused. The header tells how
//! large the image was when it was last compiled whole; when too much is unused, everything is compiled.

use std::collections::BTreeSet;

use super::buckets::Buckets;
use super::compiler::COMPILER;
use super::search::Searches;
use super::tables::Tables;
use super::{Compiler, Image, ImageError, Open, close_before, compile};
use crate::image::format::{Address, Header, Local, Root, Span};
use crate::rule::Prefix;
use crate::ruleset::{Entry, Plan, Ruleset};

/// Everything is compiled when more than this part of the rules would be, or when more than this part of the words
/// would be unused (and [`UNUSED`] words).
const PART: usize = 8;
/// This many words may be unused in any image.
const UNUSED: usize = 1 << 12;

/// A ruleset and its image.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The ruleset.
    pub ruleset: &'a Ruleset,
    /// The words of the image.
    pub image: &'a [u32],
}

/// Compiles a ruleset that replaces another one, and keeps what it can of that one's image. `plan` is the difference.
///
/// # Errors
/// As for [`compile()`].
pub fn recompile<'a>(previous: Compiled<'a>, new: &'a Ruleset, plan: &Plan) -> Result<Image<'a>, ImageError> {
    // If this fails, compile everything: neither the result nor the error may depend on history.
    match renewed(previous, new, plan) {
        Some(Ok(image)) if !is_swollen(image.header()) => Ok(image),
        _ => compile(new),
    }
}

fn is_swollen(header: &Header) -> bool {
    let whole = header.whole_words as usize;
    header.search_words as usize > whole + whole / PART + UNUSED
}

/// The image with only the windows made again that the plan touches; `None` when that is too much or not possible.
fn renewed<'a>(previous: Compiled<'a>, new: &'a Ruleset, plan: &Plan) -> Option<Result<Image<'a>, ImageError>> {
    let header = Header::decode(previous.image).ok().filter(|header| header.compiler == COMPILER)?;
    let Header { v4, v6, cells, .. } = &header;
    if !is_whole::<u32>(v4, v6.windows, v6.buckets) || !is_whole::<u128>(v6, v4.buckets, *cells) {
        return None;
    }
    let room = new.len() / PART;
    if plan.rules.len() > room || !means_the_same(previous.ruleset, new) {
        return None;
    }
    let (pieces4, rules4) = touched::<u32, _>(plan, &v4.span(), &new.v4, room)?;
    let (pieces6, rules6) = touched::<u128, _>(plan, &v6.span(), &new.v6, room)?;
    let rules = plan.rules.len() + rules4 + rules6;
    (rules <= room).then(|| renew(previous.image, &header, new, [&pieces4, &pieces6]))
}

/// Whether there are windows for all pieces of a root, whole buckets, and no piece beyond the highest address. Nothing
/// of a damaged image is kept.
fn is_whole<K: Address>(root: &Root, windows_end: u32, buckets_end: u32) -> bool {
    let windows = (windows_end - root.windows) as usize;
    let buckets = (buckets_end - root.buckets) as usize;
    let bits = K::BITS.min(u64::BITS);
    let end = u128::from(root.first) + (u128::from(root.pieces) << root.shift.min(bits));
    let all_windows = root.pieces == 0 || windows >= (root.pieces as usize + 1) * K::WINDOW;
    all_windows && buckets.is_multiple_of(K::BUCKET) && root.shift < bits && end <= 1 << bits
}

/// Whether leaves that stay keep their meaning: services have the same numbers and policies, interfaces the same
/// indexes.
fn means_the_same(previous: &Ruleset, new: &Ruleset) -> bool {
    let services = previous.services.iter().all(|(id, was)| {
        let same_number = new.services.id(was.name.as_str()).is_none_or(|now| now == id);
        let bound = |service: &crate::rule::Service| service.answers == Some(crate::rule::Answers::Bound);
        let meaning =
            |service: &crate::rule::Service| (bound(service), service.on_missing, service.spread, service.sticky);
        let same = |now: &crate::rule::Service| now.name == was.name && meaning(now) == meaning(was);
        same_number && new.services.get(id).is_none_or(same)
    });
    let index =
        |name: &crate::rule::InterfaceName| new.interfaces.iter().find(|now| now.name == *name).map(|now| now.index);
    services && previous.interfaces.iter().all(|was| index(&was.name).is_none_or(|index| index == was.index))
}

/// The pieces that a plan touches in a family, and how many rules they have, at least one each. `None` when there is no
/// room for that many, or the plan touches addresses outside of all pieces.
fn touched<K: Address, E: Entry>(
    plan: &Plan,
    span: &Span,
    entries: &[E],
    room: usize,
) -> Option<(BTreeSet<u32>, usize)> {
    let mut pieces = BTreeSet::new();
    // Rules of one prefix are neighbours.
    let mut locals: Vec<Prefix> = plan.rules.iter().map(|change| change.matching().local).collect();
    locals.dedup();
    for local in locals.into_iter().filter(|local| local.family() == K::FAMILY) {
        let (first, last) = K::bounds(local);
        // Every address is outside of a span without pieces.
        let first = (span.at(first) as u32).checked_sub(1)?;
        let last = (span.at(last) as u32).checked_sub(1)?;
        if (last - first) as usize >= room {
            return None;
        }
        pieces.extend(first..=last);
        if pieces.len() > room {
            return None;
        }
    }
    let rules = pieces.iter().map(|piece| 1 + inside(entries, &Piece::<K>::of(span, *piece)).len()).sum();
    Some((pieces, rules))
}

/// The addresses of a window.
struct Piece<K> {
    first: K,
    last: K,
    /// How long their common prefix is.
    len: u8,
}

impl<K: Address> Piece<K> {
    fn of(span: &Span, piece: u32) -> Self {
        let (first, last) = span.bounds::<K>(piece);
        Self { first, last, len: span.prefix_len::<K>() }
    }
}

/// The rules whose local prefixes are inside a window and do not cover it.
fn inside<'e, K: Address, E: Entry>(entries: &'e [E], piece: &Piece<K>) -> &'e [E] {
    let is_before = |entry: &E| {
        let (addr, len) = entry.local_bits();
        (K::of_bits(addr), len) <= (piece.first, piece.len)
    };
    let entries = &entries[entries.partition_point(is_before)..];
    &entries[..entries.partition_point(|entry| K::of_bits(entry.local_bits().0) <= piece.last)]
}

/// The rules of the local prefix of `len` bits that holds the address.
fn holding<K: Address, E: Entry>(entries: &[E], addr: K, len: u8) -> &[E] {
    let local = (addr.first_of(len), len);
    let local_of = |entry: &E| {
        let (addr, len) = entry.local_bits();
        (K::of_bits(addr), len)
    };
    let entries = &entries[entries.partition_point(|entry| local_of(entry) < local)..];
    &entries[..entries.iter().take_while(|entry| local_of(entry) == local).count()]
}

fn renew<'a>(
    image: &'a [u32],
    header: &Header,
    new: &'a Ruleset,
    [pieces4, pieces6]: [&BTreeSet<u32>; 2],
) -> Result<Image<'a>, ImageError> {
    let Header { index, blocks32, blocks128, cells, ranges, chain, search_words, v4, v6, .. } = header;
    let area = |from: &u32, to: &u32| &image[*from as usize..*to as usize];
    let searches = Searches {
        index: area(index, blocks32).to_vec(),
        blocks32: area(blocks32, blocks128).to_vec(),
        blocks128: area(blocks128, &v4.windows).to_vec(),
        bisect: header.bisect != 0,
    };
    let tables = Tables::kept(new, header, searches, area(cells, ranges).to_vec(), area(ranges, chain));
    let mut compiler = Compiler { tables, chain: area(chain, search_words).to_vec(), hops: header.hops as usize };
    let mut buckets4 = Buckets::kept(v4, area(&v4.windows, &v6.windows).to_vec(), area(&v4.buckets, &v6.buckets));
    let mut buckets6 = Buckets::kept(v6, area(&v6.windows, &v4.buckets).to_vec(), area(&v6.buckets, cells));
    windows(&mut compiler, &v4.span(), pieces4, &new.v4, &mut buckets4)?;
    windows(&mut compiler, &v6.span(), pieces6, &new.v6, &mut buckets6)?;
    compiler.finish(buckets4, buckets6, Some(header.whole_words))
}

/// Makes the windows of these pieces again.
fn windows<K: Address, E: Entry>(
    compiler: &mut Compiler<'_>,
    span: &Span,
    pieces: &BTreeSet<u32>,
    entries: &[E],
    buckets: &mut Buckets<'_, K>,
) -> Result<(), ImageError> {
    let mut open = Vec::new();
    for number in pieces {
        let piece = Piece::<K>::of(span, *number);
        // The prefixes that are left cover this window too. The next ones are inside them.
        close_before(piece.first, &mut open);
        for len in 0..=piece.len {
            let around = holding(entries, piece.first, len);
            let is_open = |rules: &[E]| open.iter().any(|outer: &Open<'_, K, E>| outer.rules[0].same_local(rules[0]));
            if !around.is_empty() && !is_open(around) {
                compiler.local(around, &mut open)?;
            }
        }
        let cover = open.last().map_or([0; 2], |outer| outer.value);
        let groups = inside(entries, &piece).chunk_by(|a, b| a.same_local(*b));
        let locals: Vec<Local<K>> = groups.map(|rules| compiler.local(rules, &mut open)).collect::<Result<_, _>>()?;
        buckets.renew(*number, &locals, cover);
    }
    Ok(())
}
