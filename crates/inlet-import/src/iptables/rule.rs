//! One rule of iptables: its conditions in order, then its target.

use std::collections::{BTreeMap, BTreeSet};

use crate::firewall::{Action, ChainId, Firewall, Rule, SocketTest, Step, Test};
use crate::ipset::Sets;

/// Reads the words of one rule.
pub(super) struct Reader<'a> {
    pub(super) firewall: &'a mut Firewall,
    pub(super) sets: &'a Sets,
    pub(super) chains: &'a BTreeMap<String, ChainId>,
    pub(super) words: std::iter::Peekable<std::slice::Iter<'a, String>>,
    pub(super) steps: Vec<Step>,
    /// The module that options belong to.
    pub(super) module: String,
    pub(super) socket: Option<(SocketTest, bool)>,
    /// What is to be told of the rule although it is translated.
    pub(super) notes: Vec<String>,
    /// The sets that it names.
    pub(super) used: BTreeSet<String>,
    /// The sets that packets change.
    pub(super) changed: BTreeSet<String>,
    /// Whether ports of both sides are meant, and which.
    pub(super) either: Option<(Test, bool)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        firewall: &'a mut Firewall,
        sets: &'a Sets,
        chains: &'a BTreeMap<String, ChainId>,
        words: &'a [String],
    ) -> Self {
        Self {
            firewall,
            sets,
            chains,
            words: words.iter().peekable(),
            steps: Vec::new(),
            module: String::new(),
            socket: None,
            notes: Vec::new(),
            used: BTreeSet::new(),
            changed: BTreeSet::new(),
            either: None,
        }
    }

    pub(super) fn next(&mut self) -> &'a str {
        self.words.next().map_or("", String::as_str)
    }

    pub(super) fn matches(&mut self, test: Test, not: bool) {
        let test = self.firewall.test(test);
        self.steps.push(Step::Match { test, not });
    }

    pub(super) fn cannot(&mut self, why: impl Into<String>) {
        self.matches(Test::Unknown(why.into()), false);
    }

    /// Reads all of it into the rule.
    pub(super) fn read(&mut self, rule: &mut Rule) {
        let mut not = false;
        let mut actions = Vec::new();
        while let Some(word) = self.words.next() {
            match word.as_str() {
                "!" => {
                    not = true;
                    continue;
                }
                "--comment" => rule.comment = Some(self.next().to_owned()),
                "-j" | "--jump" => actions = self.target(),
                "-g" | "--goto" => {
                    let name = self.next();
                    actions = vec![match self.chains.get(name) {
                        Some(chain) => Action::Goto(*chain),
                        None => Action::Anything(format!("there is no chain {name}")),
                    }];
                }
                option => self.condition(option, not),
            }
            not = false;
        }
        if let Some((socket, not)) = self.socket.take() {
            self.matches(Test::Socket(socket), not);
        }
        let steers = actions.iter().any(|action| matches!(action, Action::Tproxy { .. }));
        match self.either.take() {
            Some((test, false)) if steers => {
                self.matches(test, false);
                self.notes.push(
                    "packets that come from these ports are not steered: a ruleset has no source ports".to_owned(),
                );
            }
            Some(_) => self.cannot("a ruleset has no source ports, which --ports means too"),
            None => {}
        }
        self.steps.extend(actions.into_iter().map(Step::Do));
        rule.steps = std::mem::take(&mut self.steps);
        let notes = self.notes.drain(..).map(|why| rule.left(why, false));
        self.firewall.told.extend(notes);
    }
}
