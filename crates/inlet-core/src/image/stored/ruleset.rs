//! The ruleset as it was given, stored at the end of the image. So a list of rules shows what is in force.
//!
//! The words are the counts of services, interfaces, shapes, IPv4 and IPv6 rules and shapes with a mark, then the
//! items.
//!
//! A service is its number (with the policy and whether it has a description above 16 bits), its name and its
//! description. An interface is its index and its name. A name is its length in bytes and the bytes, padded with 0. A
//! shape takes 8 words, a mark 3 (the offset of its shape, mask and value), an IPv4 rule 2 (its sortable number), an
//! IPv6 rule 5 (the address, then its tail).

use std::borrow::Cow;

use super::valid::is_valid;
use crate::image::format::{Header, HeaderError, from_words, to_words};
use crate::rule::{
    Confine, Description, IfaceId, Interface, Mark, OnMissing, PortRange, Prefix, Protocol, Remedy, Service, ServiceId,
    ServiceName, Services, Spread, UserName, Verdict,
};
use crate::ruleset::{Entry4, Entry6, Ruleset, Shape};
use crate::threads::{MANY, join};

const COUNTS: usize = 6;
const SHAPE_WORDS: usize = 8;
const MARK_WORDS: usize = 3;
const PASS_WHEN_MISSING: u32 = 1 << 16;
const DESCRIBED: u32 = 1 << 17;
const GROUP_CHOOSES: u32 = 1 << 18;
const NO_MPTCP: u32 = 1 << 24;
/// Which control group a description gives.
const NOWHERE: u32 = 0;
const UNIT: u32 = 1;
const CGROUP: u32 = 2;
/// None, and sockets of any user are meant.
const ANYONE: u32 = 3;

/// Why the source part of an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The image cannot be read at all.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A part is cut off or has invalid values.
    #[error("image is damaged: its {0} cannot be read")]
    Damaged(&'static str),
}

impl Remedy for SourceError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Header(error) => error.remedy(),
            Self::Damaged(_) => None,
        }
    }
}

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
    let mut head: Vec<u32> =
        [services.len(), interfaces.len(), shapes.len(), v4.len(), v6.len(), marked].map(|n| n as u32).to_vec();
    for (id, service) in services.iter() {
        let policy = if service.on_missing == OnMissing::Pass { PASS_WHEN_MISSING } else { 0 };
        let described = if service.description.is_some() { DESCRIBED } else { 0 };
        let spread = if service.spread == Spread::Group { GROUP_CHOOSES } else { 0 };
        let plain = service.description.as_ref().is_some_and(|it| it.no_mptcp);
        let plain = if plain { NO_MPTCP } else { 0 };
        head.push(u32::from(id.get()) | policy | described | spread | plain);
        push_text(&mut head, service.name.as_str());
        if let Some(description) = &service.description {
            push_description(&mut head, description);
        }
    }
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

fn push_text(words: &mut Vec<u32>, text: &str) {
    words.push(text.len() as u32);
    for chunk in text.as_bytes().chunks(4) {
        let mut bytes = [0; 4];
        bytes[..chunk.len()].copy_from_slice(chunk);
        words.push(u32::from_ne_bytes(bytes));
    }
}

/// The count of addresses and their texts; the kind of control group and its text; the user, empty for any.
fn push_description(words: &mut Vec<u32>, description: &Description) {
    words.push(description.listen().len() as u32);
    description.listen().iter().for_each(|listen| push_text(words, &listen.to_string()));
    let (kind, text) = match &description.confine {
        None if description.anyone => (ANYONE, ""),
        None => (NOWHERE, ""),
        Some(Confine::Unit(unit)) => (UNIT, unit.as_str()),
        Some(Confine::Cgroup(path)) => (CGROUP, path.as_str()),
    };
    words.push(kind);
    push_text(words, text);
    push_text(words, description.user.as_ref().map_or("", UserName::as_str));
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
/// [`SourceError`] when the words are not a whole image of this format.
pub fn decode(image: &[u32]) -> Result<Ruleset, SourceError> {
    let header = Header::decode(image)?;
    let mut words = Words(&image[header.source as usize..header.words as usize]);
    let (mut ruleset, rules4, rules6) = read_head(&mut words)?;
    words.align(image, &header);
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
    let services = read_services(words, services)?;
    let interfaces: Vec<Interface> = (0..interfaces).map(|_| read_interface(words)).collect::<Result<_, _>>()?;
    let shapes = words.take(shapes.saturating_mul(SHAPE_WORDS), "shapes")?;
    let mut shapes: Vec<Shape> = shapes.chunks_exact(SHAPE_WORDS).map(read_shape).collect::<Result<_, _>>()?;
    let marks = words.take(marked.saturating_mul(MARK_WORDS), "marks")?;
    marks.chunks_exact(MARK_WORDS).try_for_each(|words| read_mark(words, &mut shapes))?;
    Ok((Ruleset { services, interfaces, shapes, v4: Vec::new(), v6: Vec::new() }, v4, v6))
}

pub(super) struct Words<'a>(pub(super) &'a [u32]);

impl<'a> Words<'a> {
    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u32], SourceError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SourceError::Damaged(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self, what: &'static str) -> Result<String, SourceError> {
        let len = self.take(1, what)?[0] as usize;
        let mut bytes: Vec<u8> = self.take(len.div_ceil(4), what)?.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.truncate(len);
        String::from_utf8(bytes).map_err(|_| SourceError::Damaged(what))
    }

    /// Skips the word that keeps the rules at an even offset.
    fn align(&mut self, image: &[u32], header: &Header) {
        let at = header.words as usize - self.0.len() - header.source as usize;
        debug_assert!(at <= image.len());
        if !at.is_multiple_of(2) {
            self.0 = self.0.get(1..).unwrap_or_default();
        }
    }
}

fn read_services(words: &mut Words<'_>, count: usize) -> Result<Services, SourceError> {
    let damaged = || SourceError::Damaged("services");
    let mut services = Services::default();
    for _ in 0..count {
        let number = words.take(1, "services")?[0];
        let name: ServiceName = words.text("services")?.parse().map_err(|_| damaged())?;
        let id = ServiceId::new(number as u16).ok_or_else(damaged)?;
        if services.get(id).is_some() || services.id(name.as_str()).is_some() {
            return Err(damaged());
        }
        let on_missing = if number & PASS_WHEN_MISSING != 0 { OnMissing::Pass } else { OnMissing::Refuse };
        let spread = if number & GROUP_CHOOSES != 0 { Spread::Group } else { Spread::Inlet };
        let described = number & DESCRIBED != 0;
        let mut description = described.then(|| read_description(words)).transpose()?;
        if let Some(description) = &mut description {
            description.no_mptcp = number & NO_MPTCP != 0;
        }
        services.insert(id, Service { name, on_missing, spread, description });
    }
    Ok(services)
}

fn read_description(words: &mut Words<'_>) -> Result<Description, SourceError> {
    let damaged = |_| SourceError::Damaged("descriptions");
    let count = words.take(1, "descriptions")?[0];
    let mut listen = Vec::new();
    for _ in 0..count {
        listen.push(words.text("descriptions")?.parse().map_err(damaged)?);
    }
    let mut description = Description::new(listen).map_err(damaged)?;
    let kind = words.take(1, "descriptions")?[0];
    let text = words.text("descriptions")?;
    description.anyone = kind == ANYONE;
    description.confine = match kind {
        UNIT => Some(Confine::Unit(text.parse().map_err(damaged)?)),
        CGROUP => Some(Confine::Cgroup(text.parse().map_err(damaged)?)),
        _ => None,
    };
    let user = words.text("descriptions")?;
    description.user = if user.is_empty() { None } else { Some(user.parse().map_err(damaged)?) };
    Ok(description)
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
