//! One rule of nftables: what it compares, in tests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Name;
use super::field::Field;
use super::sets::NamedSet;
use super::values::{Piece, numbers};
use crate::firewall::{ChainId, Firewall, Member, Step, Test, TestId};

/// Reads the expressions of one rule.
pub(super) struct Reader<'a> {
    pub(super) firewall: &'a mut Firewall,
    pub(super) chains: &'a BTreeMap<Name, ChainId>,
    pub(super) sets: &'a BTreeMap<Name, NamedSet>,
    /// The chain that the rule is in.
    pub(super) here: &'a Name,
    pub(super) steps: Vec<Step>,
    /// The sets that it names.
    pub(super) used: BTreeSet<Name>,
    /// The sets that packets change.
    pub(super) changed: BTreeSet<Name>,
}

/// The fields that are compared at once.
pub(super) struct Key(pub(super) Vec<Field>);

impl Key {
    pub(super) fn of(value: &Value) -> Self {
        match value.get("concat").and_then(Value::as_array) {
            Some(fields) => Self(fields.iter().map(Field::of).collect()),
            None => Self(vec![Field::of(value)]),
        }
    }

    /// Whether the fields have one of these values.
    pub(super) fn test(&self, pieces: &[Piece]) -> Test {
        if let [field] = self.0.as_slice() {
            return field.test(pieces);
        }
        if let Some(Field::Unknown(why)) = self.0.iter().find(|field| matches!(field, Field::Unknown(_))) {
            return Test::Unknown(why.clone());
        }
        let members: Option<Vec<Option<Member>>> = pieces.iter().map(|piece| self.member(piece)).collect();
        match members {
            Some(members) => Test::Tuple(members.into_iter().flatten().collect()),
            None => Test::Unknown("a ruleset has no conditions for all parts of this concatenation".to_owned()),
        }
    }

    /// The member that a value stands for; no member when it is of other protocols.
    fn member(&self, piece: &Piece) -> Option<Option<Member>> {
        let mut member = Member::default();
        match piece {
            Piece::All => return Some(Some(member)),
            Piece::Concat(parts) if parts.len() == self.0.len() => {
                for (field, part) in self.0.iter().zip(parts) {
                    if !field.narrow(&mut member, part)? {
                        return Some(None);
                    }
                }
            }
            _ => return None,
        }
        Some(Some(member))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        firewall: &'a mut Firewall,
        chains: &'a BTreeMap<Name, ChainId>,
        sets: &'a BTreeMap<Name, NamedSet>,
        here: &'a Name,
    ) -> Self {
        Self { firewall, chains, sets, here, steps: Vec::new(), used: BTreeSet::new(), changed: BTreeSet::new() }
    }

    pub(super) fn matches(&mut self, test: Test, not: bool) {
        let test = self.firewall.test(test);
        self.steps.push(Step::Match { test, not });
    }

    pub(super) fn cannot(&mut self, why: impl Into<String>) {
        self.matches(Test::Unknown(why.into()), false);
    }

    /// The tests that packets must pass to have the fields.
    pub(super) fn implied(&mut self, key: &Key) {
        for test in key.0.iter().filter_map(Field::implied).collect::<Vec<_>>() {
            self.matches(test, false);
        }
    }

    /// The values that stand in a rule: one, a list, or a named set.
    pub(super) fn elements(&mut self, value: &Value) -> Result<Vec<Value>, String> {
        if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
            let (family, table, _) = self.here;
            let name = (family.clone(), table.clone(), name.to_owned());
            let set = self.sets.get(&name).ok_or_else(|| format!("there is no set {}", name.2))?;
            self.used.insert(name);
            return Ok(set.elements.clone());
        }
        if let Some(elements) = value.get("set").and_then(Value::as_array) {
            return Ok(elements.clone());
        }
        // Flags stand in lists, or are or-ed.
        if let Some(list) = value.as_array().or_else(|| value.get("|")?.as_array()) {
            return Ok(list.clone());
        }
        Ok(vec![value.clone()])
    }

    pub(super) fn condition(&mut self, value: &Value) {
        let key = Key::of(&value["left"]);
        self.implied(&key);
        let elements = match self.elements(&value["right"]) {
            Ok(elements) => elements,
            Err(why) => return self.cannot(why),
        };
        let pieces: Vec<Piece> = elements.iter().map(Piece::of).collect();
        let op = value["op"].as_str().unwrap_or("==");
        if let (Some(Field::TcpFlags), "==" | "!=") = (key.0.first(), op) {
            // Just these flags: of packets that open connections that is SYN alone.
            let only = elements.iter().all(|flag| flag == "syn") && !elements.is_empty();
            return self.matches(Test::Always(only), op == "!=");
        }
        match (op, pieces.as_slice()) {
            ("==" | "in", _) => self.matches(key.test(&pieces), false),
            ("!=", _) => self.matches(key.test(&pieces), true),
            ("<" | "<=" | ">" | ">=", [one]) => match (numbers(one, u32::MAX.into()), key.0.as_slice()) {
                (Some((bound, _)), [field]) => self.compared(field, op, bound),
                _ => self.cannot(format!("the import does not understand {value}")),
            },
            _ => self.cannot(format!("the import does not understand {value}")),
        }
    }

    fn compared(&mut self, field: &Field, op: &str, bound: u64) {
        let max: u64 = if matches!(field, Field::Ports(_)) { u16::MAX.into() } else { u32::MAX.into() };
        let range = match op {
            "<" => bound.checked_sub(1).map(|last| (0, last)),
            "<=" => Some((0, bound)),
            ">" => Some((bound + 1, max)),
            _ => Some((bound, max)),
        };
        let range = range.filter(|(first, last)| first <= last && *last <= max);
        let pieces: Vec<Piece> =
            range.iter().map(|(first, last)| Piece::Between((*first).into(), (*last).into())).collect();
        self.matches(field.test(&pieces), false);
    }

    /// Entries of a map with equal values as one test.
    pub(super) fn grouped<T: PartialEq>(&mut self, key: &Key, entries: Vec<(Value, T)>) -> Vec<(TestId, T)> {
        let mut groups: Vec<(Vec<Piece>, T)> = Vec::new();
        let mut rest = Vec::new();
        for (value, result) in entries {
            let piece = Piece::of(&value);
            // What stands for all others comes last.
            let list = if matches!(piece, Piece::All) { &mut rest } else { &mut groups };
            match list.iter_mut().find(|(_, other)| *other == result) {
                Some((pieces, _)) => pieces.push(piece),
                None => list.push((vec![piece], result)),
            }
        }
        groups.into_iter().chain(rest).map(|(pieces, result)| (self.firewall.test(key.test(&pieces)), result)).collect()
    }

    /// The entries of a map, in a rule or named.
    pub(super) fn entries(&mut self, data: &Value) -> Result<Vec<(Value, Value)>, String> {
        let entry = |entry: &Value| match entry.as_array().map(Vec::as_slice) {
            Some([key, value]) => Ok((key.clone(), value.clone())),
            _ => Err(format!("{entry} is no entry of a map")),
        };
        self.elements(data)?.iter().map(entry).collect()
    }
}
