//! The programs on the hook of a namespace.

use inlet::{Explanation, Hook, HookProgram, Outcome, Steering};
use serde::Serialize;

/// A program on the hook.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    id: u32,
    name: Option<String>,
    inlet: bool,
}

/// All programs, when they may be listed.
pub(super) fn programs(hook: &Hook) -> Option<Vec<Program>> {
    let program = |it: &HookProgram| Program { id: it.id, name: it.name.clone(), inlet: it.ours };
    hook.programs.as_ref().map(|all| all.iter().map(program).collect())
}

/// Whether packets are steered; `None`: the caller may not know.
pub(super) fn is_steering(hook: &Hook) -> Option<bool> {
    match hook.steering {
        Steering::Yes | Steering::Unpinned => Some(true),
        Steering::No => Some(false),
        Steering::Unknown => None,
    }
}

/// Who decides about packets, in the order in which they are asked.
pub(super) fn line(hook: &Hook) -> String {
    let order = match &hook.programs {
        None => "who else is on it takes root to see".to_owned(),
        Some(all) if all.len() == 1 && all[0].ours => "inlet alone".to_owned(),
        Some(all) => {
            let one = |it: &HookProgram| if it.ours { format!("inlet {it}") } else { it.to_string() };
            all.iter().map(one).collect::<Vec<_>>().join(", then ")
        }
    };
    match hook.steering {
        Steering::No if hook.programs.as_ref().is_none_or(Vec::is_empty) => "nothing is steered".to_owned(),
        Steering::No => format!("nothing is steered; others: {order}"),
        _ => order,
    }
}

/// What programs of others may do to the answer, where there are any.
pub(super) fn notes(explanation: &Explanation) -> Vec<String> {
    let Some(hook) = &explanation.hook else { return Vec::new() };
    let (before, after) = hook.others();
    let names = |all: &[HookProgram]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (earlier, later) = match explanation.outcome {
        Outcome::Socket => {
            ("may choose another socket, which then stands", "may choose another socket in place of this one")
        }
        Outcome::Pass => ("may choose a socket or refuse the packet", "may choose a socket or refuse the packet"),
        Outcome::Refuse => {
            ("may choose a socket, which then receives the packet", "may choose a socket, which then receives it")
        }
    };
    let note = |all: &[HookProgram], place: &str, may: &str| {
        let known = "inlet does not know what it does";
        (!all.is_empty()).then(|| format!("a program that runs {place} on the hook {may}: {}; {known}", names(all)))
    };
    [note(before, "before inlet", earlier), note(after, "after inlet", later)].into_iter().flatten().collect()
}
