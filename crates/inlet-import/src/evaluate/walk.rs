//! A packet on its way through the chains. Where a test has no certain answer, both ways are gone.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use inlet_core::{Family, Protocol};

use super::answer::{Answer, Answers};
use super::budget::Budget;
use super::state::{Exit, Mark, Outcomes, State, Verdict};
use crate::firewall::{Action, ChainId, Firewall, RuleId, Step, Test, TestId};

/// So many chains may call each other; the kernel allows 16 in nftables.
const DEPTH: usize = 128;
/// So many states of one packet are followed at a time, and so many in all chains.
const STATES: usize = 4096;
const STORED: usize = 1 << 17;

/// What is known of the packets that are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point<'a> {
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
    pub(crate) local: Option<u128>,
    pub(crate) port: Option<u16>,
    pub(crate) source: Option<u128>,
    /// The number of a name, 0 for any other interface.
    pub(crate) iface: Option<usize>,
    /// The number of the mark that it has in the end, 0 for any other one.
    pub(crate) mark: Option<usize>,
    /// The rules of each chain that may be about such packets.
    pub(crate) chains: &'a [Vec<RuleId>],
    /// Of each test by several fields, the members that have the local address, once it is known.
    pub(crate) members: &'a HashMap<TestId, Vec<u32>>,
}

/// One question: what becomes of the packets of an area.
pub(super) struct Walk<'a> {
    firewall: &'a Firewall,
    pub(super) answers: Answers<'a>,
    budget: &'a Budget,
    found: RefCell<Outcomes>,
    seen: RefCell<HashMap<(ChainId, State), Exits>>,
    stored: Cell<usize>,
}

/// All ways out of a chain.
type Exits = Rc<BTreeSet<(State, Exit)>>;

/// How a packet leaves a rule.
pub(super) enum Then {
    Next,
    Leave(Exit),
}

impl<'a> Walk<'a> {
    pub(super) fn new(firewall: &'a Firewall, answers: Answers<'a>, budget: &'a Budget) -> Self {
        Self { firewall, answers, budget, found: RefCell::default(), seen: RefCell::default(), stored: Cell::new(0) }
    }

    /// Goes through all chains where such packets come in.
    pub(super) fn outcomes(self) -> Outcomes {
        let mut states = BTreeMap::from([(State::NEW, BTreeSet::new())]);
        for base in &self.firewall.bases {
            if base.family.is_some_and(|family| family != self.answers.point.family) {
                continue;
            }
            let mut next: BTreeMap<State, BTreeSet<RuleId>> = BTreeMap::new();
            for (state, by) in states {
                for (state, exit) in self.chain(base.chain, state, 0).iter() {
                    let rule = match (*exit, base.drops) {
                        (Exit::Refuse(rule), _) | (Exit::Return(_), Some(rule)) => {
                            if self.is_meant(state) {
                                self.end(Verdict::Refuse, [rule]);
                            }
                            continue;
                        }
                        (Exit::Return(rule), None) => rule,
                        (Exit::Accept(rule), _) => Some(rule),
                    };
                    next.entry(*state).or_default().extend(by.iter().copied().chain(rule));
                }
            }
            states = next;
        }
        for (state, by) in states.into_iter().filter(|(state, _)| self.is_meant(state)) {
            match state.steered {
                Some((Some(target), rule)) => self.end(Verdict::To(target), [rule]),
                Some((None, rule)) => self.end(Verdict::Odd, [rule]),
                None => self.end(Verdict::Pass, by),
            }
        }
        self.found.into_inner()
    }

    /// Whether a packet that ends so can be one of those that are asked about, as far as its mark tells.
    fn is_meant(&self, state: &State) -> bool {
        let Answers { point, asked_marks, .. } = &self.answers;
        point.mark.is_none_or(|number| asked_marks.allow(number, state.last_mark()))
    }

    fn end(&self, verdict: Verdict, rules: impl IntoIterator<Item = RuleId>) {
        self.found.borrow_mut().verdicts.entry(verdict).or_default().extend(rules);
    }

    pub(super) fn doubt(&self, rule: RuleId, why: &str) {
        self.found.borrow_mut().doubts.insert((rule, why.to_owned()));
    }

    fn give_up(&self, rule: RuleId) {
        if !self.found.borrow().gave_up {
            self.found.borrow_mut().gave_up = true;
            self.end(Verdict::Odd, [rule]);
            self.doubt(rule, TOO_MUCH);
        }
    }

    /// All ways in which a packet may leave a chain.
    fn chain(&self, chain: ChainId, state: State, depth: usize) -> Exits {
        if let Some(known) = self.seen.borrow().get(&(chain, state)) {
            return Rc::clone(known);
        }
        let mut exits = BTreeSet::new();
        let mut states = BTreeSet::from([state]);
        for rule in &self.answers.point.chains[chain] {
            if states.is_empty() {
                break;
            }
            let is_too_much = states.len() > STATES || depth > DEPTH || self.stored.get() + exits.len() > STORED;
            if self.found.borrow().gave_up || is_too_much || !self.budget.take(states.len()) {
                self.give_up(*rule);
                break;
            }
            let mut next = BTreeSet::new();
            for state in std::mem::take(&mut states) {
                self.rule(*rule, state, depth, &mut |state, then| match then {
                    Then::Next => _ = next.insert(state),
                    Then::Leave(exit) => _ = exits.insert((state, exit)),
                });
            }
            states = next;
        }
        exits.extend(states.into_iter().map(|state| (state, Exit::Return(None))));
        self.stored.set(self.stored.get() + exits.len());
        let exits = Rc::new(exits);
        self.seen.borrow_mut().insert((chain, state), Rc::clone(&exits));
        exits
    }

    fn rule(&self, id: RuleId, mut state: State, depth: usize, out: &mut dyn FnMut(State, Then)) {
        // What was the mark before the rule matters within it, and afterwards only to a packet that got its socket.
        if self.answers.point.mark.is_some() && state.steered.is_none() {
            state.before = state.mark;
        }
        let mut out = |mut state: State, then: Then| {
            if state.steered.is_none() {
                state.before = Mark::ZERO;
            }
            // What the rule that gives a socket does to the mark goes with that rule.
            match std::mem::take(&mut state.changed) && state.steered.is_none() {
                true => {
                    self.doubt(id, MARK_CHANGES);
                    self.end(Verdict::Odd, [id]);
                }
                false => out(state, then),
            }
        };
        self.steps(id, &self.firewall.rules[id].steps, state, depth, &mut out);
    }

    pub(super) fn steps(
        &self,
        id: RuleId,
        steps: &[Step],
        state: State,
        depth: usize,
        out: &mut dyn FnMut(State, Then),
    ) {
        let Some((step, rest)) = steps.split_first() else { return out(state, Then::Next) };
        match step {
            Step::Match { test, not } => {
                let answer = self.answer(id, *test, &state);
                let state = self.having_asked(*test, state);
                let (yes, no) =
                    if *not { (answer.may_fail(), answer.may_hold()) } else { (answer.may_hold(), answer.may_fail()) };
                if yes {
                    self.steps(id, rest, state, depth, out);
                }
                if no {
                    out(state, Then::Next);
                }
            }
            Step::Do(action) => self.action(id, action, rest, state, depth, out),
        }
    }

    /// The packet after a test: bits of its mark that were asked for are to stay as they are.
    fn having_asked(&self, test: TestId, mut state: State) -> State {
        if let (Test::Mark { conn: false, mask, .. }, Some(_)) = (&self.firewall.tests[test], self.answers.point.mark) {
            state.assumed |= mask & state.mark.fresh;
        }
        state
    }

    pub(super) fn answer(&self, id: RuleId, test: TestId, state: &State) -> Answer {
        let answer = self.answers.of(test, state);
        match &answer {
            Answer::Depends => _ = self.found.borrow_mut().asked.insert(self.firewall.listeners_of(test)),
            Answer::Unknown(why) => self.doubt(id, why),
            Answer::Yes | Answer::No => {}
        }
        answer
    }

    fn action(
        &self,
        id: RuleId,
        action: &Action,
        rest: &[Step],
        mut state: State,
        depth: usize,
        out: &mut dyn FnMut(State, Then),
    ) {
        match action {
            Action::Accept => out(state, Then::Leave(Exit::Accept(id))),
            Action::Drop | Action::Reject => out(state, Then::Leave(Exit::Refuse(id))),
            Action::Return => out(state, Then::Leave(Exit::Return(Some(id)))),
            Action::Jump(chain) => {
                for (state, exit) in self.chain(*chain, state, depth + 1).iter() {
                    match exit {
                        Exit::Return(_) => out(*state, Then::Next),
                        exit => out(*state, Then::Leave(*exit)),
                    }
                }
            }
            Action::Goto(chain) => {
                for (state, exit) in self.chain(*chain, state, depth + 1).iter() {
                    out(*state, Then::Leave(*exit));
                }
            }
            Action::Dispatch(list) => self.dispatch(id, list, state, depth, out),
            Action::Tproxy { choices, ends } => self.tproxy(id, choices, *ends, rest, state, depth, out),
            Action::Anything(why) => {
                self.doubt(id, why);
                out(state, Then::Next);
                out(state, Then::Leave(Exit::Accept(id)));
                out(State { steered: Some((None, id)), ..state }, Then::Leave(Exit::Accept(id)));
            }
            simple => {
                match simple {
                    Action::Mark { conn: false, keep, flip } => {
                        state.changed |= (!keep | flip) & state.assumed & state.mark.fresh != 0;
                        state.mark = state.mark.set(*keep, *flip);
                    }
                    Action::Mark { conn: true, keep, flip } => state.conn = state.conn.set(*keep, *flip),
                    Action::CopyMark { to_conn: true } => state.conn = state.mark,
                    Action::CopyMark { to_conn: false } => state.mark = state.conn,
                    Action::NoTrack => state.untracked = true,
                    _ => {}
                }
                self.steps(id, rest, state, depth, out);
            }
        }
    }

    /// Goes on with the first of the list whose test may hold, and with later ones as long as none surely does.
    fn dispatch(
        &self,
        id: RuleId,
        list: &[(TestId, Action)],
        state: State,
        depth: usize,
        out: &mut dyn FnMut(State, Then),
    ) {
        for (test, action) in list {
            let answer = self.answer(id, *test, &state);
            if answer.may_hold() {
                self.action(id, action, &[], state, depth, out);
            }
            if !answer.may_fail() {
                return;
            }
        }
        // Without an entry the rule ends: what follows is for nobody.
        out(state, Then::Next);
    }
}

/// Why the import gives up.
pub(crate) const TOO_MUCH: &str =
    "following all ways through these chains takes too long; split the ruleset, or write what it does as rules";
const MARK_CHANGES: &str =
    "it changes a mark that an earlier rule asks for, and a ruleset asks for the mark that a packet has in the end";
