//! A packet at a rule that gives it a socket.

use super::answer::Answer;
use super::state::{Exit, State, Target};
use super::walk::{Then, Walk};
use crate::firewall::{Choice, RuleId, Step};

impl Walk<'_> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn tproxy(
        &self,
        id: RuleId,
        choices: &[Choice],
        ends: bool,
        rest: &[Step],
        state: State,
        depth: usize,
        out: &mut dyn FnMut(State, Then),
    ) {
        for choice in choices {
            if choice.family.is_some_and(|family| family != self.answers.point.family) {
                continue;
            }
            let answer = choice.test.map_or(Answer::Yes, |test| self.answer(id, test, &state));
            if answer.may_hold() {
                let port = choice.port.or(self.answers.point.port.filter(|_| self.answers.one_port));
                let steered = port.map(|port| Target { addr: choice.addr, port });
                if steered.is_none() {
                    self.doubt(id, EACH_PORT);
                }
                let state = State { steered: Some((steered, id)), ..state };
                match ends {
                    true => out(state, Then::Leave(Exit::Accept(id))),
                    false => self.steps(id, rest, state, depth, out),
                }
            }
            if !answer.may_fail() {
                return;
            }
        }
        out(state, Then::Next);
    }
}

const EACH_PORT: &str =
    "it looks for a socket at the port that the packet goes to; write a rule and a service for each port that is meant";
