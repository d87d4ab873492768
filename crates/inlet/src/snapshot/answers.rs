//! Where answers over UDP leave from, as a reader sees it.

use super::Snapshot;
use crate::answers::{needs, uncovered};
use crate::error::Result;
use crate::state::{Access, AnswerCounters, FlowTable, Stays, answer_counters, answer_table, is_there};

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
        let Some(needs) = needs(&self.ruleset) else { return Ok(AnswersState::Bound) };
        if !self.notes_flows()? {
            return Ok(AnswersState::Unable);
        }
        // While tables of another size take their place, those before are whole.
        let (now, before) = (self.files.answers(), self.files.answers_before());
        let files = if is_there(&now.counters())? { now } else { before };
        let uncovered = if needs.ports { uncovered(&files, self.location.netns())? } else { Vec::new() };
        let counters = answer_counters(&files)?;
        let table = answer_table(&files, &counters)?;
        Ok(AnswersState::Asked { counters, table, uncovered })
    }

    /// How full the table of flows that stay on their sockets is; `None` where none does.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn stays(&self) -> Result<Option<FlowTable>> {
        let stays = Stays::open(&self.files.sticky(), &self.files.answers(), Access::Read)?;
        stays.map(|stays| stays.maps.table()).transpose()
    }

    /// Whether the program in force notes where flows ask.
    pub(crate) fn notes_flows(&self) -> Result<bool> {
        self.files.generation(self.generation).notes_flows()
    }
}
