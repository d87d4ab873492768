//! The commands of `ipset save`, done in order: what is in each set at the end.

mod members;

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::Family;

pub(crate) use self::members::Part;
use crate::Left;
use crate::firewall::{Range, mask_len};

/// All sets by name, with what could not be done.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    all: BTreeMap<String, Set>,
    pub(crate) told: Vec<Left>,
}

/// A set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) kind: String,
    pub(crate) family: Option<Family>,
    /// Members are prefixes of this length.
    netmask: Option<u32>,
    /// Each with whether it is an exception.
    pub(crate) members: BTreeMap<Vec<Part>, bool>,
    /// Of a list: the names of its sets.
    pub(crate) lists: Vec<String>,
    /// What is to be told when the set is used, by line.
    pub(crate) told: Vec<Left>,
    /// Why the set cannot be used.
    pub(crate) unusable: Option<String>,
}

/// A line as it is told about.
struct Line<'a> {
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn left(&self, why: impl Into<String>) -> Left {
        Left { place: format!("line {}", self.number), text: self.text.to_owned(), why: why.into(), todo: false }
    }
}

impl Sets {
    /// The set of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Set> {
        self.all.get(name)
    }

    /// All that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Set)> {
        self.all.iter()
    }

    /// Does what a line says; false when it is no command of ipset.
    pub(crate) fn line(&mut self, number: usize, text: &str) -> bool {
        let words = match text.contains(['"', '\'', '\\']) {
            true => shlex::split(text).unwrap_or_default(),
            false => text.split_whitespace().map(str::to_owned).collect(),
        };
        let quiet = |word: &&str| !matches!(*word, "-!" | "-exist" | "--exist");
        let exist = words.iter().any(|word| !quiet(&word.as_str()));
        let words: Vec<&str> = words.iter().map(String::as_str).filter(quiet).collect();
        let line = Line { number, text };
        let done = match words.as_slice() {
            ["create" | "n" | "-N", name, kind, options @ ..] => self.create(&line, name, kind, options, exist),
            ["add" | "-A", name, member, options @ ..] => self.with(name, |set| set.add(&line, member, options, exist)),
            ["del" | "-D", name, member, ..] => self.with(name, |set| set.del(member, exist)),
            ["flush" | "-F", name] => self.with(name, |set| {
                set.members.clear();
                set.lists.clear();
                Ok(())
            }),
            ["flush" | "-F"] => {
                self.all.values_mut().for_each(|set| {
                    set.members.clear();
                    set.lists.clear();
                });
                Ok(())
            }
            ["destroy" | "x" | "-X", name] => self.all.remove(*name).map(drop).ok_or_else(|| NO_SET.to_owned()),
            ["destroy" | "x" | "-X"] => {
                self.all.clear();
                Ok(())
            }
            ["swap" | "w" | "-W", one, other] => self.swap(one, other),
            ["rename" | "e" | "-E", name, new] => match self.all.remove(*name) {
                Some(set) => {
                    self.all.insert((*new).to_owned(), set);
                    Ok(())
                }
                None => Err(NO_SET.to_owned()),
            },
            ["save" | "list" | "version" | "COMMIT" | "quit", ..] => Ok(()),
            _ => return false,
        };
        if let Err(why) = done {
            self.told.push(line.left(why));
        }
        true
    }

    fn with(&mut self, name: &str, change: impl FnOnce(&mut Set) -> Result<(), String>) -> Result<(), String> {
        match self.all.get_mut(name) {
            Some(set) => change(set),
            None => Err(NO_SET.to_owned()),
        }
    }

    fn create(&mut self, line: &Line<'_>, name: &str, kind: &str, options: &[&str], exist: bool) -> Result<(), String> {
        if self.all.contains_key(name) {
            return if exist { Ok(()) } else { Err("there is a set of this name already".to_owned()) };
        }
        let mut set = Set { kind: kind.to_owned(), family: Some(Family::V4), ..Set::default() };
        let mut words = options.iter();
        while let Some(word) = words.next() {
            match *word {
                "family" if words.next() == Some(&"inet6") => set.family = Some(Family::V6),
                "netmask" => {
                    let text = words.next().copied().unwrap_or_default();
                    set.netmask = text.parse().ok().or_else(|| mask_len(text.parse().ok()?));
                    if set.netmask.is_none() {
                        set.unusable = Some(format!("its netmask {text} is no length"));
                    }
                }
                "bitmask" => match words.next().and_then(|mask| mask_len(mask.parse().ok()?)) {
                    Some(len) => set.netmask = Some(len),
                    None => set.unusable = Some("it compares bits that are no prefix (bitmask)".to_owned()),
                },
                "timeout" if words.next() != Some(&"0") => set.told.push(line.left(PERMANENT)),
                _ => {}
            }
        }
        if kind == "list:set" {
            set.family = None;
        }
        self.all.insert(name.to_owned(), set);
        Ok(())
    }

    fn swap(&mut self, one: &str, other: &str) -> Result<(), String> {
        match (self.all.remove(one), self.all.remove(other)) {
            (Some(a), Some(b)) => {
                self.all.insert(one.to_owned(), b);
                self.all.insert(other.to_owned(), a);
                Ok(())
            }
            (a, b) => {
                a.map(|set| self.all.insert(one.to_owned(), set));
                b.map(|set| self.all.insert(other.to_owned(), set));
                Err(NO_SET.to_owned())
            }
        }
    }

    /// The sets that a name stands for: itself, or those of a list.
    pub(crate) fn meant(&self, name: &str) -> Vec<(&str, &Set)> {
        match self.all.get_key_value(name) {
            Some((_, set)) if set.kind == "list:set" => {
                let known = set.lists.iter().filter_map(|name| self.all.get_key_value(name));
                known.filter(|(_, set)| set.kind != "list:set").map(|(name, set)| (name.as_str(), set)).collect()
            }
            Some((name, set)) => vec![(name.as_str(), set)],
            None => Vec::new(),
        }
    }
}

const NO_SET: &str = "there is no set of this name";
const PERMANENT: &str = "members of this set end after a time; the import takes them as permanent";

impl Set {
    fn add(&mut self, line: &Line<'_>, member: &str, options: &[&str], exist: bool) -> Result<(), String> {
        if self.kind == "list:set" {
            self.lists.push(member.to_owned());
            return Ok(());
        }
        let mut words = options.iter();
        let mut nomatch = false;
        while let Some(word) = words.next() {
            match *word {
                "nomatch" => nomatch = true,
                "timeout" if words.next() != Some(&"0") && self.told.is_empty() => self.told.push(line.left(PERMANENT)),
                "packets" | "bytes" | "comment" | "skbmark" | "skbprio" | "skbqueue" => _ = words.next(),
                _ => {}
            }
        }
        for parts in self.parts(member)? {
            let before = self.members.insert(parts, nomatch);
            if before.is_some() && !exist {
                return Err("the member is there already, and ipset would end here".to_owned());
            }
        }
        Ok(())
    }

    fn del(&mut self, member: &str, exist: bool) -> Result<(), String> {
        if self.kind == "list:set" {
            self.lists.retain(|other| other != member);
            return Ok(());
        }
        for parts in self.parts(member)? {
            if self.members.remove(&parts).is_none() && !self.cut(&parts) && !exist {
                return Err("there is no such member".to_owned());
            }
        }
        Ok(())
    }

    /// Takes addresses out of members that have more, where each address is a member of its own.
    fn cut(&mut self, parts: &[Part]) -> bool {
        let [Part::Address(out)] = parts else { return false };
        if !matches!(self.kind.as_str(), "hash:ip" | "bitmap:ip") {
            return false;
        }
        let meets = |range: &Range| range.family == out.family && range.first <= out.last && out.first <= range.last;
        let all: BTreeSet<Range> = self.members.keys().filter_map(|parts| parts[0].address()).filter(meets).collect();
        for range in &all {
            self.members.remove(&vec![Part::Address(*range)]);
            if range.first < out.first {
                self.members.insert(vec![Part::Address(Range { last: out.first - 1, ..*range })], false);
            }
            if out.last < range.last {
                self.members.insert(vec![Part::Address(Range { first: out.last + 1, ..*range })], false);
            }
        }
        !all.is_empty()
    }
}
