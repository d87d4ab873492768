//! Where answers over UDP leave from, in the status of an instance.

use inlet::{AnswerCounters, AnswersState, FlowTable};
use serde::Serialize;

use super::grouped;

#[derive(Serialize)]
pub(super) struct Answers<'a> {
    from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    uncovered: &'a [String],
}

#[derive(Serialize)]
struct Counted {
    noted: u64,
    ambiguous: u64,
    unnoted: u64,
    addressed: u64,
    rewritten: u64,
    uncovered: u64,
}

/// A table of flows.
#[derive(Serialize)]
pub(super) struct Table {
    flows: u64,
    max: u32,
    forgotten: u64,
}

impl From<&FlowTable> for Table {
    fn from(table: &FlowTable) -> Self {
        let FlowTable { flows, max, forgotten } = *table;
        Self { flows, max, forgotten }
    }
}

/// How full it is, in words.
pub(super) fn filled(table: &FlowTable) -> String {
    let FlowTable { flows, max, forgotten } = *table;
    format!(
        "{} of at most {} flows, {} forgotten to make room",
        grouped(flows),
        grouped(max.into()),
        grouped(forgotten)
    )
}

impl<'a> From<&'a AnswersState> for Answers<'a> {
    fn from(state: &'a AnswersState) -> Self {
        let bound = |from| Self { from, counters: None, table: None, uncovered: &[] };
        match state {
            AnswersState::Bound => bound("bound"),
            AnswersState::Unable => bound("unable"),
            AnswersState::Asked { counters, table, uncovered } => {
                let AnswerCounters { noted, ambiguous, unnoted, addressed, rewritten, uncovered: bare, .. } = *counters;
                let counters = Some(Counted { noted, ambiguous, unnoted, addressed, rewritten, uncovered: bare });
                Self { from: "asked", counters, table: Some(table.into()), uncovered }
            }
        }
    }
}

/// The lines of the status; none where no rule of UDP needs it.
pub(super) fn lines(state: &AnswersState) -> Vec<String> {
    match state {
        AnswersState::Bound => Vec::new(),
        AnswersState::Unable => vec!["leave from where sockets are bound: see inlet check".to_owned()],
        AnswersState::Asked { counters, table, uncovered } => {
            let AnswerCounters { noted, ambiguous, unnoted, addressed, rewritten, uncovered: bare, .. } = *counters;
            let mut lines = vec![
                format!(
                    "leave as asked; {} with the address set, {} with the port",
                    grouped(addressed),
                    grouped(rewritten)
                ),
                format!(
                    "{} flows noted, {} ambiguous (one asked elsewhere than before), {} without room",
                    grouped(noted),
                    grouped(ambiguous),
                    grouped(unnoted)
                ),
                filled(table),
            ];
            if !uncovered.is_empty() {
                let names = uncovered.join(", ");
                lines.push(format!("leave from the port of the socket through {names}: run inlet watch"));
            }
            if bare > 0 {
                lines.push(format!(
                    "{} left from the port of the socket, asked through such an interface",
                    grouped(bare)
                ));
            }
            lines
        }
    }
}
