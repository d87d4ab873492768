//! Why a commit is refused, or what is left to do after it.

use std::borrow::Cow;

use super::Error;

/// Why a commit is refused, or what is left to do after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A commit was made, and then something failed that had to be done after it.
    #[error("the new ruleset is in force (generation {generation}), but what it replaced is not cleared away: {cause}")]
    Unfinished {
        /// The generation in force.
        generation: u64,
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// The change would lock out whoever makes it.
    #[error("{rule} would take {packet} from {listener}, which {why}")]
    LockOut {
        /// The listener that would lose packets.
        listener: String,
        /// Why it must not.
        why: &'static str,
        /// Where such a packet goes to.
        packet: String,
        /// The rule that would take it, or that would go.
        rule: String,
        /// What keeps it.
        fix: String,
    },
    /// Somebody else changed the ruleset meanwhile.
    #[error("generation {generation} is in force and not {expected}: the ruleset was changed meanwhile")]
    OtherGeneration {
        /// The generation that the change was made for.
        expected: u64,
        /// The generation in force.
        generation: u64,
    },
}

impl CommitError {
    pub(crate) fn remedy(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Unfinished { .. } => "any command that changes the instance finishes it".into(),
            Self::LockOut { fix, .. } => format!("{fix}; or do it even so with --force").into(),
            Self::OtherGeneration { .. } => "look at the rules in force, then make the change anew".into(),
        })
    }
}
