//! Where answers over UDP leave from, as a reader sees it.

use super::Snapshot;
use crate::answers::{InFront, in_front, needs, uncovered};
use crate::error::Result;
use crate::state::{Access, AnswerCounters, AnswerFiles, FlowTable, Stays, answer_counters, answer_table, is_there};

/// Where the answers over UDP of an instance leave from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswersState {
    /// From where sockets are bound: no rule leads to a service that wants it otherwise.
    Bound,
    /// From where sockets are bound, as this host could not do what services want when the ruleset came into force.
    Unable,
    /// From where they were asked.
    Asked {
        /// What was counted.
        counters: AnswerCounters,
        /// How full the table of noted flows is.
        table: FlowTable,
        /// The interfaces through which answers leave from the port of their socket even so: they came since the last commit,
        /// while nobody watched.
        uncovered: Vec<String>,
    },
}

impl Snapshot {
    /// Where answers over UDP leave from.
    ///
    /// # Errors
    /// Those of reading the counters, and of listing the interfaces.
    pub fn answers(&self) -> Result<AnswersState> {
        if needs(&self.ruleset).is_none_or(|needs| !needs.asked) {
            return Ok(AnswersState::Bound);
        }
        if !self.notes_flows()? {
            return Ok(AnswersState::Unable);
        }
        let (files, uncovered) = (self.answer_files()?, self.uncovered()?);
        let counters = answer_counters(&files)?;
        let table = answer_table(&files, &counters)?;
        Ok(AnswersState::Asked { counters, table, uncovered })
    }

    /// The interfaces through which answers leave from the port of their socket though they should not.
    pub(crate) fn uncovered(&self) -> Result<Vec<String>> {
        if !needs(&self.ruleset).is_some_and(|needs| needs.asked) || !self.notes_flows()? {
            return Ok(Vec::new());
        }
        let files = self.answer_files()?;
        // A socket that was registered by hand may need it where the rules do not.
        match is_there(&files.port())? {
            true => uncovered(&files, self.location.netns()),
            false => Ok(Vec::new()),
        }
    }

    /// The interfaces on which programs of others come before the one that sets ports; `None` for who may not ask.
    pub(crate) fn in_front_of_answers(&self) -> Result<Option<Vec<InFront>>> {
        in_front(&self.answer_files()?, self.location.netns())
    }

    /// How many answers to clients of the host passed rules that would have taken them; `None` where no rule takes any, or
    /// this host cannot tell them.
    ///
    /// # Errors
    /// Those of reading the counters.
    pub fn client_answers(&self) -> Result<Option<u64>> {
        if !self.passes_clients()? {
            return Ok(None);
        }
        Ok(Some(answer_counters(&self.answer_files()?)?.passed))
    }

    /// While tables of another size take their place, those before are whole.
    fn answer_files(&self) -> Result<AnswerFiles> {
        let (now, before) = (self.files.answers(), self.files.answers_before());
        Ok(if is_there(&now.counters())? { now } else { before })
    }

    /// Whether the program in force lets answers to clients of the host pass.
    pub(crate) fn passes_clients(&self) -> Result<bool> {
        let wanted = needs(&self.ruleset).is_some_and(|needs| !needs.clients.is_empty());
        // A program of an earlier version has no such table.
        Ok(wanted && self.notes_flows()? && is_there(&self.answer_files()?.clients())?)
    }

    /// How full the table of flows that stay on their sockets is; `None` where none does.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn stays(&self) -> Result<Option<FlowTable>> {
        let stays = Stays::open(&self.files.sticky(), &self.files.answers(), Access::Read)?;
        stays.map(|stays| stays.maps.table()).transpose()
    }

    /// Whether the program in force has the tables of answers.
    pub(crate) fn notes_flows(&self) -> Result<bool> {
        self.files.generation(self.generation).notes_flows()
    }
}
