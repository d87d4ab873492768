//! Rules joined into rules with lists, as far as the lists say just what the rules do.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use inlet_core::{Family, PortRange, Prefix, Protocol};

use super::{Choice, Shape};
use crate::firewall::{RuleId, to_prefix};

/// A rule with lists: all combinations of what is in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) families: Vec<Family>,
    pub(crate) choice: Choice,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) locals: Vec<Prefix>,
    pub(crate) ports: Vec<PortRange>,
    /// Ports that pass.
    pub(crate) except: Vec<PortRange>,
    /// None: any.
    pub(crate) sources: Vec<Prefix>,
    /// The number of an interface and a mark, 0 for any.
    pub(crate) iface: usize,
    /// The rules of the firewall that it comes from.
    pub(crate) lines: BTreeSet<RuleId>,
}

/// So many prefixes of both families may stand in one rule.
const FEW: usize = 8;

/// A source, or any.
type Source = Option<Prefix>;
/// Rules that differ in the source, or in the ports.
type BySources = BTreeMap<(Choice, usize, (u16, u16)), Vec<Source>>;
type ByPorts = BTreeMap<(Choice, usize, Vec<Source>), Vec<PortRange>>;

/// The rules of one group of local prefixes.
pub(super) fn of_group(
    family: Family,
    protocol: Protocol,
    locals: &[Prefix],
    shapes: Vec<Shape>,
    lines: impl Fn(Choice) -> BTreeSet<RuleId>,
) -> Vec<Row> {
    let mut sources = BySources::new();
    for shape in shapes {
        let source = shape.source.map(|(first, len)| to_prefix(family, first, len));
        // No packet comes from an IPv4-mapped prefix.
        let Some(source) = source.map_or(Some(None), |prefix| prefix.map(Some)) else { continue };
        sources.entry((shape.choice, shape.iface, shape.ports)).or_default().push(source);
    }
    let mut ports = ByPorts::new();
    for ((choice, iface, (first, last)), sources) in sources {
        // Those with and without a source cannot share a list.
        for sources in sources.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let mut sources = sources.to_vec();
            sources.sort_unstable();
            let range = PortRange::new(first, last);
            ports.entry((choice, iface, sources)).or_default().extend(range);
        }
    }
    let row = |choice: Choice, iface: usize, sources: Vec<Source>, ports: Vec<PortRange>| Row {
        families: vec![family],
        choice,
        protocols: vec![protocol],
        locals: locals.to_vec(),
        ports,
        except: Vec::new(),
        sources: sources.into_iter().flatten().collect(),
        iface,
        lines: lines(choice),
    };
    with_exceptions(
        ports.into_iter().map(|((choice, iface, sources), ports)| row(choice, iface, sources, ports)).collect(),
    )
}

/// Ports that pass become exceptions of the rule for all ports beside them.
fn with_exceptions(mut rows: Vec<Row>) -> Vec<Row> {
    let mut number = 0;
    while number < rows.len() {
        let pass = &rows[number];
        let is_around = |row: &Row| {
            matches!(row.choice, Choice::To(_))
                && row.ports == [PortRange::ANY]
                && row.except.is_empty()
                && (&row.sources, row.iface) == (&pass.sources, pass.iface)
        };
        let narrower = pass.choice == Choice::Pass && !pass.ports.contains(&PortRange::ANY);
        match rows.iter().position(is_around).filter(|_| narrower) {
            Some(around) => {
                let pass = rows.remove(number);
                let around = if around > number { around - 1 } else { around };
                rows[around].except = pass.ports;
                rows[around].lines.extend(pass.lines);
            }
            None => number += 1,
        }
    }
    rows
}

/// All of a rule but its local prefixes, with the lines that it comes from.
type Origin = (Vec<Family>, Vec<Protocol>, Rest, BTreeSet<RuleId>);

/// Rules that come from the same lines and differ in the local prefixes only become one.
fn with_equal_rest(rows: Vec<Row>) -> Vec<Row> {
    let mut found: Vec<Row> = Vec::new();
    let mut known: BTreeMap<Origin, usize> = BTreeMap::new();
    for row in rows {
        let rest = (row.choice, row.ports.clone(), row.except.clone(), row.sources.clone(), row.iface);
        match known.entry((row.families.clone(), row.protocols.clone(), rest, row.lines.clone())) {
            Entry::Occupied(entry) => found[*entry.get()].locals.extend(row.locals),
            Entry::Vacant(entry) => {
                entry.insert(found.len());
                found.push(row);
            }
        }
    }
    found
}

/// The key of rules that differ in one list only.
type Rest = (Choice, Vec<PortRange>, Vec<PortRange>, Vec<Prefix>, usize);

/// The rules of all groups: those that differ in the protocol, or in the family only, are joined; in the order of the
/// firewall.
pub(super) fn merged(rows: Vec<Row>) -> Vec<Row> {
    let rest =
        |row: &Row| -> Rest { (row.choice, row.ports.clone(), row.except.clone(), row.sources.clone(), row.iface) };
    let mut by_protocol: BTreeMap<(Vec<Prefix>, Rest), Row> = BTreeMap::new();
    for row in rows {
        let key = (row.locals.clone(), rest(&row));
        by_protocol
            .entry(key)
            .and_modify(|other| {
                other.protocols.extend(&row.protocols);
                other.lines.extend(&row.lines);
            })
            .or_insert(row);
    }
    let mut found: Vec<Row> = Vec::new();
    let mut by_family: BTreeMap<(Vec<Protocol>, Rest, BTreeSet<RuleId>), usize> = BTreeMap::new();
    for row in by_protocol.into_values() {
        let key = (row.protocols.clone(), rest(&row), row.lines.clone());
        let may = row.sources.is_empty() && row.locals.len() <= FEW;
        match by_family.get(&key).filter(|number| may && found[**number].families != row.families) {
            Some(number) => {
                let other = &mut found[*number];
                other.locals.extend(row.locals);
                other.families.extend(row.families);
            }
            None => {
                if may {
                    by_family.insert(key, found.len());
                }
                found.push(row);
            }
        }
    }
    let mut found = with_equal_rest(found);
    found.sort_by_key(|row| {
        (row.lines.first().copied().unwrap_or(RuleId::MAX), row.choice, row.locals.first().copied())
    });
    found
}
