//! A firewall as it was saved: chains of rules, each a list of tests and actions, in a form that iptables and nftables
//! share.
//!
//! Nothing is decided here. `evaluate` finds out who gets which packet, `encode` writes that as a ruleset.

mod spans;

use std::collections::BTreeMap;
use std::net::IpAddr;

use inlet_core::{Family, Prefix, Protocol};

pub(crate) use spans::{Addresses, Range, Spans, bits, holds, joined, last, mask_len, to_prefix};

use crate::Left;

/// The number of a chain.
pub(crate) type ChainId = usize;
/// The number of a test.
pub(crate) type TestId = usize;
/// The number of a rule: every rule of every chain has its own.
pub(crate) type RuleId = usize;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    pub(crate) chains: Vec<Chain>,
    /// The chains where packets come in, in the order in which packets meet them.
    pub(crate) bases: Vec<Base>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) tests: Vec<Test>,
    /// The named sets of addresses, so that the ruleset can have them under their names.
    pub(crate) sets: BTreeMap<String, Vec<Prefix>>,
    /// The interfaces of the host, where they are known.
    pub(crate) interfaces: Option<Vec<String>>,
    /// What was found while reading.
    pub(crate) told: Vec<Left>,
}

/// A chain, by the numbers of its rules.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) rules: Vec<RuleId>,
}

/// A chain where packets come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) chain: ChainId,
    /// Packets of this family, or of both.
    pub(crate) family: Option<Family>,
    /// The rule that stands for its policy, when that is to drop.
    pub(crate) drops: Option<RuleId>,
}

/// A rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) comment: Option<String>,
    /// Done in order, until a test does not hold or an action ends it.
    pub(crate) steps: Vec<Step>,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The rest is for packets for which the test holds, or with `not`, does not.
    Match {
        test: TestId,
        not: bool,
    },
    Do(Action),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The first choice whose test holds gives the packet a socket; without any the rule ends.
    Tproxy {
        choices: Vec<Choice>,
        ends: bool,
    },
    Accept,
    Drop,
    Reject,
    Return,
    Jump(ChainId),
    Goto(ChainId),
    /// The first whose test holds is done; without any the rule goes on.
    Dispatch(Vec<(TestId, Action)>),
    /// Of the packet, or of the connection: the bits of `keep` stay, then those of `flip` are flipped.
    Mark {
        conn: bool,
        keep: u32,
        flip: u32,
    },
    /// The mark of the connection becomes that of the packet, or the other way round.
    CopyMark {
        to_conn: bool,
    },
    NoTrack,
    /// It cannot be seen what it does.
    Anything(String),
    Nothing,
}

/// Where TPROXY looks for a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) test: Option<TestId>,
    pub(crate) family: Option<Family>,
    pub(crate) addr: Option<IpAddr>,
    /// `None`: the port that the packet goes to.
    pub(crate) port: Option<u16>,
}

/// A question about a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Always(bool),
    Family(Family),
    Protocols(Vec<Protocol>),
    Local(Addresses),
    Source(Addresses),
    /// Sorted, disjoint.
    Ports(Spans),
    /// Names; one that ends with `*` stands for all that begin so.
    Ifaces(Vec<String>),
    Tuple(Vec<Member>),
    Mark {
        conn: bool,
        mask: u32,
        values: Vec<(u32, u32)>,
    },
    /// Whether packets of new connections are meant, when they are tracked and when they are not.
    State {
        tracked: bool,
        untracked: bool,
    },
    /// Whether there is a socket that gets the packet.
    Socket(SocketTest),
    /// Whether it goes to an address of the host, or to one that is not.
    LocalType(bool),
    Unknown(String),
}

/// Which sockets a test means. A socket that TPROXY gave counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketTest {
    pub(crate) transparent: Option<bool>,
    pub(crate) wildcard: Option<bool>,
    /// The test of the listeners that are there, once these are known.
    pub(crate) found: Option<TestId>,
}

/// A member of a set of several fields: a packet is of it when all that it names are right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) family: Option<Family>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) local: Option<(u128, u128)>,
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) source: Option<(u128, u128)>,
    pub(crate) iface: Option<String>,
    /// Of several members that have a packet the one with the highest rank decides.
    pub(crate) rank: u16,
    /// Whether it has the packet or takes it out; `None` when that is not known.
    pub(crate) counts: Option<bool>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            family: None,
            protocol: None,
            local: None,
            ports: None,
            source: None,
            iface: None,
            rank: 0,
            counts: Some(true),
        }
    }
}

impl Firewall {
    /// Adds a test.
    pub(crate) fn test(&mut self, test: Test) -> TestId {
        self.tests.push(test);
        self.tests.len() - 1
    }

    /// The test itself, or for one about sockets that of the listeners that are there.
    pub(crate) fn listeners_of(&self, test: TestId) -> TestId {
        match &self.tests[test] {
            Test::Socket(SocketTest { found: Some(found), .. }) => *found,
            _ => test,
        }
    }

    /// Adds a rule to the end of a chain.
    pub(crate) fn push(&mut self, chain: ChainId, rule: Rule) -> RuleId {
        let id = self.rules.len();
        self.rules.push(rule);
        self.chains[chain].rules.push(id);
        id
    }

    /// Whether a rule gives packets marks.
    pub(crate) fn gives_marks(&self) -> bool {
        let marks = |step: &Step| matches!(step, Step::Do(Action::Mark { .. } | Action::CopyMark { .. }));
        self.rules.iter().flat_map(|rule| &rule.steps).any(marks)
    }

    /// Whether a rule somewhere gives packets to sockets, or may do so.
    pub(crate) fn has_tproxy(&self) -> bool {
        let steers = |action: &Action| matches!(action, Action::Tproxy { .. } | Action::Anything(_));
        self.rules.iter().flat_map(|rule| &rule.steps).any(|step| match step {
            Step::Do(Action::Dispatch(list)) => list.iter().any(|(_, action)| steers(action)),
            Step::Do(action) => steers(action),
            Step::Match { .. } => false,
        })
    }
}

impl Rule {
    pub(crate) fn left(&self, why: impl Into<String>, todo: bool) -> Left {
        Left { place: self.place.clone(), text: self.text.clone(), why: why.into(), todo }
    }
}

/// Whether a text is the name of an interface, or the beginning of names with a `*` behind.
pub(crate) fn is_interface(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    (name.is_empty() && text == "*") || name.parse::<inlet_core::InterfaceName>().is_ok()
}
