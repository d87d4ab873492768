//! The tables of iptables in the making: chains, policies and rules as commands change them.

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::Family;

use super::command::{Command, normal};
use super::rule::Reader;
use super::{CHANGES, REDIRECTS, RELIES};
use crate::Left;
use crate::firewall::{Base, ChainId, Firewall, Rule};
use crate::ipset::Sets;

/// The tables in the order in which packets pass them.
const TABLES: [&str; 2] = ["raw", "mangle"];
/// The other tables of iptables.
const OTHERS: [&str; 3] = ["filter", "nat", "security"];

type ChainName = (Family, String, String);

/// A rule with its line and the words that it was given by.
struct Entry {
    line: usize,
    words: Vec<String>,
    rule: Rule,
}

/// A chain in the making.
#[derive(Default)]
struct Making {
    entries: Vec<Entry>,
    policy: Option<(String, usize, String)>,
}

pub(super) struct Tables<'a> {
    firewall: Firewall,
    chains: BTreeMap<ChainName, Making>,
    numbers: BTreeMap<ChainName, ChainId>,
    sets: &'a Sets,
    used: BTreeSet<String>,
    /// The sets that packets change, each with the rule.
    changed: Vec<(String, Left)>,
    family: Family,
    table: String,
    /// The tables that were read.
    seen: BTreeSet<(Family, String)>,
    /// Rules of the nat table that send packets elsewhere.
    redirects: Vec<Left>,
    /// Rules that stay, and ask for what TPROXY rules give.
    relying: Vec<Left>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(sets: &'a Sets) -> Self {
        Self {
            firewall: Firewall::default(),
            chains: BTreeMap::new(),
            numbers: BTreeMap::new(),
            sets,
            used: BTreeSet::new(),
            changed: Vec::new(),
            family: Family::V4,
            table: String::new(),
            seen: BTreeSet::new(),
            redirects: Vec::new(),
            relying: Vec::new(),
        }
    }

    fn tell(&mut self, number: usize, text: &str, why: impl Into<String>) {
        self.firewall.told.push(left(number, text, why));
    }

    /// A table begins: what was in it is gone, as iptables-restore does it.
    pub(super) fn begin(&mut self, number: usize, line: &str, table: &str, family: Family) {
        self.family = family;
        table.clone_into(&mut self.table);
        if !TABLES.contains(&table) && !OTHERS.contains(&table) {
            self.tell(number, line, "there is no such table");
        }
        if !self.seen.insert((family, table.to_owned())) && TABLES.contains(&table) {
            self.chains.retain(|(of, name, _), _| (*of, name.as_str()) != (family, table));
            self.tell(
                number,
                line,
                "the table is there twice; the second one replaces the first, as iptables-restore does it",
            );
        }
        if TABLES.contains(&table) {
            self.chain("PREROUTING");
        }
    }

    fn name(&self, chain: &str) -> ChainName {
        (self.family, self.table.clone(), chain.to_owned())
    }

    fn chain(&mut self, chain: &str) -> &mut Making {
        let name = self.name(chain);
        if !self.numbers.contains_key(&name) {
            self.firewall.chains.push(crate::firewall::Chain::default());
            self.numbers.insert(name.clone(), self.firewall.chains.len() - 1);
        }
        self.chains.entry(name).or_default()
    }

    pub(super) fn line(&mut self, number: usize, line: &str) {
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" {
            return;
        }
        if self.table == "nat" {
            self.redirects.extend(redirect(number, line));
        }
        self.relying.extend(relying(&self.table, number, line));
        if OTHERS.contains(&self.table.as_str()) {
            if !line.starts_with([':', '-', '[']) {
                self.tell(number, line, NO_COMMAND);
            }
            return;
        }
        match Command::read(line) {
            Some(command) if TABLES.contains(&self.table.as_str()) => {
                if let Err(why) = self.command(number, line, command) {
                    self.tell(number, line, why);
                }
            }
            _ => self.tell(number, line, NO_COMMAND),
        }
    }

    fn command(&mut self, number: usize, line: &str, command: Command) -> Result<(), String> {
        let known = |tables: &Self, chain: &str| match tables.chains.contains_key(&tables.name(chain)) {
            true => Ok(()),
            false => Err(format!("there is no chain {chain}")),
        };
        match command {
            Command::Chain(chain, policy) => {
                let making = self.chain(&chain);
                making.entries.clear();
                making.policy = policy.map(|policy| (policy, number, line.to_owned()));
            }
            Command::Policy(chain, policy) => {
                known(self, &chain)?;
                self.chain(&chain).policy = Some((policy, number, line.to_owned()));
            }
            Command::Append(chain, words) => {
                known(self, &chain)?;
                let entry = self.entry(number, line, words);
                self.chain(&chain).entries.push(entry);
            }
            Command::Insert(chain, at, words) => {
                known(self, &chain)?;
                let entry = self.entry(number, line, words);
                let entries = &mut self.chain(&chain).entries;
                match at.checked_sub(1).filter(|at| *at <= entries.len()) {
                    Some(at) => entries.insert(at, entry),
                    None => return Err(format!("chain {chain} has no place {at}")),
                }
            }
            Command::Replace(chain, at, words) => {
                known(self, &chain)?;
                let entry = self.entry(number, line, words);
                match at.checked_sub(1).and_then(|at| self.chain(&chain).entries.get_mut(at)) {
                    Some(old) => *old = entry,
                    None => return Err(format!("chain {chain} has no rule {at}")),
                }
            }
            Command::DeleteAt(chain, at) => {
                known(self, &chain)?;
                let entries = &mut self.chain(&chain).entries;
                match at.checked_sub(1).filter(|at| *at < entries.len()) {
                    Some(at) => drop(entries.remove(at)),
                    None => return Err(format!("chain {chain} has no rule {at}")),
                }
            }
            Command::Delete(chain, words) => {
                known(self, &chain)?;
                let words = normal(&words);
                let entries = &mut self.chain(&chain).entries;
                match entries.iter().position(|entry| normal(&entry.words) == words) {
                    Some(at) => drop(entries.remove(at)),
                    None => return Err("there is no such rule to be deleted".to_owned()),
                }
            }
            Command::Flush(Some(chain)) => {
                known(self, &chain)?;
                self.chain(&chain).entries.clear();
            }
            Command::Flush(None) => {
                let (family, table) = (self.family, self.table.clone());
                let ours = self.chains.iter_mut().filter(|((of, name, _), _)| (*of, name) == (family, &table));
                ours.for_each(|(_, making)| making.entries.clear());
            }
            Command::Remove(chain) => {
                known(self, &chain)?;
                self.chains.remove(&self.name(&chain));
            }
            Command::Zero => {}
        }
        Ok(())
    }

    fn entry(&mut self, number: usize, line: &str, words: Vec<String>) -> Entry {
        let chains: BTreeMap<String, ChainId> = self
            .chains
            .keys()
            .filter(|(family, table, _)| (*family, table) == (self.family, &self.table))
            .filter_map(|name| Some((name.2.clone(), *self.numbers.get(name)?)))
            .collect();
        let mut rule = Rule { place: format!("line {number}"), text: line.to_owned(), ..Rule::default() };
        let mut reader = Reader::new(&mut self.firewall, self.sets, &chains, &words);
        reader.read(&mut rule);
        self.used.extend(reader.used);
        self.changed.extend(reader.changed.into_iter().map(|name| (name, left(number, line, CHANGES))));
        Entry { line: number, words, rule }
    }

    pub(super) fn finish(mut self) -> Firewall {
        let mut policies = BTreeMap::new();
        let mut entries = Vec::new();
        for (name, making) in self.chains {
            let Some(number) = self.numbers.get(&name) else { continue };
            entries.extend(
                making.entries.into_iter().enumerate().map(|(at, entry)| (entry.line, *number, at, entry.rule)),
            );
            if let Some((policy, line, text)) = making.policy.filter(|(policy, ..)| policy == "DROP") {
                let steps = vec![crate::firewall::Step::Do(crate::firewall::Action::Drop)];
                let rule =
                    Rule { place: format!("line {line}"), text: format!("{text} ({policy})"), comment: None, steps };
                self.firewall.rules.push(rule);
                policies.insert(name, self.firewall.rules.len() - 1);
            }
        }
        // Rules are numbered as they stand in the text, and are in their chains where commands put them.
        entries.sort_by_key(|(line, chain, at, _)| (*line, *chain, *at));
        let mut places: Vec<(ChainId, usize, usize)> = Vec::new();
        for (_, chain, at, rule) in entries {
            self.firewall.rules.push(rule);
            places.push((chain, at, self.firewall.rules.len() - 1));
        }
        places.sort_unstable();
        places.iter().for_each(|(chain, _, id)| self.firewall.chains[*chain].rules.push(*id));
        for table in TABLES {
            for family in Family::ALL {
                let name = (family, table.to_owned(), "PREROUTING".to_owned());
                if let Some(chain) = self.numbers.get(&name) {
                    let drops = policies.get(&name).copied();
                    self.firewall.bases.push(Base { chain: *chain, family: Some(family), drops });
                }
            }
        }
        if self.firewall.has_tproxy() {
            self.firewall.told.extend(self.redirects);
        }
        if self.firewall.has_tproxy() && self.firewall.gives_marks() {
            self.firewall.told.extend(self.relying);
        }
        let used = |name: &String| self.used.contains(name);
        self.firewall.told.extend(self.changed.into_iter().filter(|(name, _)| used(name)).map(|(_, left)| left));
        for name in &self.used {
            let told = self.sets.meant(name).into_iter().chain(self.sets.get(name).map(|set| ("", set)));
            let told: Vec<Left> = told.flat_map(|(_, set)| set.told.clone()).collect();
            self.firewall.told.extend(told);
        }
        self.firewall.told.dedup();
        self.firewall
    }
}

const NO_COMMAND: &str = "this is no command of iptables-restore";

fn left(number: usize, text: &str, why: impl Into<String>) -> Left {
    Left { place: format!("line {number}"), text: text.to_owned(), why: why.into(), todo: false }
}

/// A rule of the nat table that sends packets that come in elsewhere.
fn redirect(number: usize, line: &str) -> Option<Left> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let target = words.iter().zip(words.iter().skip(1)).find(|(option, _)| matches!(**option, "-j" | "--jump"))?.1;
    let elsewhere = matches!(*target, "REDIRECT" | "DNAT" | "NETMAP") && !words.contains(&"OUTPUT");
    elsewhere.then(|| left(number, line, REDIRECTS))
}

/// A rule behind the TPROXY rules that asks for a mark, which packets may have from them only.
fn relying(table: &str, number: usize, line: &str) -> Option<Left> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let has = |options: [&str; 2], values: &[&str]| {
        words.windows(2).any(|pair| options.contains(&pair[0]) && values.contains(&pair[1]))
    };
    let comes_later = match table {
        "mangle" => has(["-A", "-I"], &["INPUT"]),
        table => OTHERS.contains(&table) && !has(["-A", "-I"], &["FORWARD", "OUTPUT", "POSTROUTING"]),
    };
    (comes_later && has(["-m", "--match"], &["mark", "connmark"])).then(|| left(number, line, RELIES))
}
