//! The ruleset as it was given, stored at the end of the image. So a list of rules shows what is in force.
//!
//! The words are the counts of services, interfaces, shapes, IPv4 and IPv6 rules and shapes with a mark, then the
//! items.
//!
//! A service is its number (with the policy, where answers leave from and whether it has a description above 16 bits),
//! its name and its description. An interface is its index and its name. A name is its length in bytes and the bytes,
//! padded with 0. A shape takes 8 words, a mark 3 (the offset of its shape, mask and value), an IPv4 rule 2 (its
//! sortable number), an IPv6 rule 5 (the address, then its tail).

use super::grants::{push_grant, read_grant};
use super::services::{push_service, read_services};
use super::valid::is_valid;
use super::words::{SourceError, Words, push_text};
use crate::image::format::{from_words, source_of, to_words};
use crate::rule::{IfaceId, Interface, Mark, PortRange, Prefix, Protocol, ServiceId, Verdict};
use crate::ruleset::{Entry4, Entry6, Ruleset, Shape};
use crate::threads::{MANY, join};

const COUNTS: usize = 6;
/// The word with the count of services has that of grants above this bit.
const GRANTS_SHIFT: u32 = 16;
const SHAPE_WORDS: usize = 8;
const MARK_WORDS: usize = 3;
/// The source part: names and shapes in words, and the rules as the ruleset has them.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    head: Vec<u32>,
    v4: &'a [Entry4],
    v6: &'a [Entry6],
}

pub(crate) fn encode(ruleset: &Ruleset) -> Encoded<'_> {
    let Ruleset { services, interfaces, shapes, v4, v6 } = ruleset;
    let marks: Vec<u32> = shapes.iter().zip(0..).flat_map(|(shape, at)| mark_words(shape, at)).flatten().collect();
    let marked = marks.len() / MARK_WORDS;
    let grants = services.grants();
    let mut head: Vec<u32> =
        [services.len() | grants.len() << GRANTS_SHIFT, interfaces.len(), shapes.len(), v4.len(), v6.len(), marked]
            .map(|n| n as u32)
            .to_vec();
    services.iter().for_each(|(id, service)| push_service(&mut head, id, service));
    grants.iter().for_each(|grant| push_grant(&mut head, grant));
    for interface in interfaces {
        head.push(interface.index);
        push_text(&mut head, interface.name.as_str());
    }
    shapes.iter().for_each(|shape| head.extend(shape_words(shape)));
    head.extend(marks);
    if !head.len().is_multiple_of(2) {
        head.push(0);
    }
    Encoded { head, v4, v6 }
}

fn shape_words(shape: &Shape) -> [u32; SHAPE_WORDS] {
    let (kind, service) = match shape.verdict {
        Verdict::Pass => (0, 0),
        Verdict::Refuse => (1, 0),
        Verdict::Service(id) => (2, u32::from(id.get())),
    };
    let iface = shape.iface.map_or(0, |id| id.index() as u32 + 1);
    let (family, len, addr) = match shape.source {
        None => (0, 0, 0),
        Some(source) => match source.net() {
            ipnet::IpNet::V4(net) => (4, net.prefix_len(), u128::from(net.addr().to_bits())),
            ipnet::IpNet::V6(net) => (6, net.prefix_len(), net.addr().to_bits()),
        },
    };
    let protocol = u32::from(shape.protocol == Protocol::Udp);
    let [a, b] = to_words((addr >> 64) as u64);
    let [c, d] = to_words(addr as u64);
    let ports = u32::from(shape.ports.first()) | u32::from(shape.ports.last()) << 16;
    [protocol | kind << 8 | family << 16 | u32::from(len) << 24, ports, service, iface, a, b, c, d]
}

fn mark_words(shape: &Shape, at: u32) -> Option<[u32; MARK_WORDS]> {
    shape.mark.map(|mark| [at, mark.mask(), mark.value()])
}

impl Encoded<'_> {
    pub(crate) fn words(&self) -> usize {
        self.head.len() + 2 * self.v4.len() + 5 * self.v6.len()
    }

    pub(crate) fn write(&self, out: &mut [u32]) {
        let (head, rules) = out.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        let (v4, v6) = rules.split_at_mut(2 * self.v4.len());
        for (words, entry) in v4.chunks_exact_mut(2).zip(self.v4) {
            words.copy_from_slice(&to_words(entry.0));
        }
        for (words, entry) in v6.chunks_exact_mut(5).zip(self.v6) {
            words[..2].copy_from_slice(&to_words((entry.addr >> 64) as u64));
            words[2..4].copy_from_slice(&to_words(entry.addr as u64));
            words[4] = entry.tail;
        }
    }
}

/// Reads the ruleset of an image.
///
/// # Errors
/// [`SourceError`] when the words are not a whole image of this format or the one before.
pub fn decode(image: &[u32]) -> Result<Ruleset, SourceError> {
    let source = &image[source_of(image)?];
    let mut words = Words(source);
    let (mut ruleset, rules4, rules6) = read_head(&mut words)?;
    // A word keeps the rules at an even offset.
    words.0 = words.0.get((source.len() - words.0.len()) % 2..).unwrap_or_default();
    let v4 = words.take(rules4.saturating_mul(2), "IPv4 rules")?;
    let v6 = words.take(rules6.saturating_mul(5), "IPv6 rules")?;
    let read4 = || v4.chunks_exact(2).map(|w| Entry4(from_words(w[0], w[1]))).collect();
    let read6 = || v6.chunks_exact(5).map(read_entry6).collect();
    (ruleset.v4, ruleset.v6) = join(rules4.min(rules6) >= MANY, read4, read6);
    if is_valid(&ruleset) { Ok(ruleset) } else { Err(SourceError::Damaged("rules")) }
}

/// Everything of a ruleset except its rules, in words.
pub(super) fn head(ruleset: &Ruleset) -> Vec<u32> {
    encode(ruleset).head
}

/// Reads what [`head`] wrote: a ruleset without its rules, and how many IPv4 and IPv6 rules follow.
pub(super) fn read_head(words: &mut Words<'_>) -> Result<(Ruleset, usize, usize), SourceError> {
    let counts = words.take(COUNTS, "counts")?;
    let [services, interfaces, shapes, v4, v6, marked] = std::array::from_fn(|i| counts[i] as usize);
    let (services, grants) = (services & ((1 << GRANTS_SHIFT) - 1), services >> GRANTS_SHIFT);
    let mut services = read_services(words, services)?;
    services.set_grants((0..grants).map(|_| read_grant(words)).collect::<Result<_, _>>()?);
    services.check_grants().map_err(|_| SourceError::Damaged("grants"))?;
    let interfaces: Vec<Interface> = (0..interfaces).map(|_| read_interface(words)).collect::<Result<_, _>>()?;
    let shapes = words.take(shapes.saturating_mul(SHAPE_WORDS), "shapes")?;
    let mut shapes: Vec<Shape> = shapes.chunks_exact(SHAPE_WORDS).map(read_shape).collect::<Result<_, _>>()?;
    let marks = words.take(marked.saturating_mul(MARK_WORDS), "marks")?;
    marks.chunks_exact(MARK_WORDS).try_for_each(|words| read_mark(words, &mut shapes))?;
    Ok((Ruleset { services, interfaces, shapes, v4: Vec::new(), v6: Vec::new() }, v4, v6))
}

fn read_interface(words: &mut Words<'_>) -> Result<Interface, SourceError> {
    let index = words.take(1, "interfaces")?[0];
    let name = words.text("interfaces")?.parse().map_err(|_| SourceError::Damaged("interfaces"))?;
    Ok(Interface { name, index })
}

fn read_shape(words: &[u32]) -> Result<Shape, SourceError> {
    let damaged = || SourceError::Damaged("shapes");
    let [protocol, kind, family, len] = words[0].to_le_bytes();
    let addr = u128::from(from_words(words[4], words[5])) << 64 | u128::from(from_words(words[6], words[7]));
    let ports = PortRange::new(words[1] as u16, (words[1] >> 16) as u16).map_err(|_| damaged())?;
    let source = match (family, len) {
        (0, _) => None,
        (4, 0..=32) => Some(Prefix::v4(addr as u32, len)),
        (6, 0..=128) => Some(Prefix::v6(addr, len)),
        _ => return Err(damaged()),
    };
    let verdict = match kind {
        0 => Verdict::Pass,
        1 => Verdict::Refuse,
        _ => Verdict::Service(ServiceId::new(words[2] as u16).ok_or_else(damaged)?),
    };
    let iface = words[3].checked_sub(1).map(u16::try_from).transpose().map_err(|_| damaged())?.map(IfaceId::new);
    let protocol = if protocol == 0 { Protocol::Tcp } else { Protocol::Udp };
    Ok(Shape { protocol, ports, source, iface, mark: None, verdict })
}

fn read_mark(words: &[u32], shapes: &mut [Shape]) -> Result<(), SourceError> {
    let damaged = SourceError::Damaged("marks");
    let Some(shape) = shapes.get_mut(words[0] as usize) else { return Err(damaged) };
    shape.mark = Some(Mark::new(words[2], words[1]).map_err(|_| damaged)?);
    Ok(())
}

fn read_entry6(words: &[u32]) -> Entry6 {
    let addr = u128::from(from_words(words[0], words[1])) << 64 | u128::from(from_words(words[2], words[3]));
    Entry6 { addr, tail: words[4] }
}
