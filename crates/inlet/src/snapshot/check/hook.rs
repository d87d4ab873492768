//! The hook: whether Inlet's program decides about packets, and who else has a say.

use inlet_core::Family;

use super::{Checkup, Severity};
use crate::error::Result;
use crate::program::marks::missing;
use crate::snapshot::Snapshot;
use crate::state::HookProgram;

pub(super) fn check(snapshot: &Snapshot, found: &mut Checkup) -> Result<()> {
    if let Err(error) = snapshot.require_steering() {
        found.add_error("not-steering", &error, "the kernel's ordinary lookup decides about all packets");
    }
    marks(snapshot, found)?;
    let hook = snapshot.hook()?;
    if hook.programs.is_none() {
        found.unchecked.push("other programs on the sk_lookup hook: to list them takes root".to_owned());
    }
    let (before, after) = hook.others();
    if before.is_empty() && after.is_empty() {
        return Ok(());
    }
    let say = |place: &str, all: &[HookProgram]| match all {
        [] => None,
        all => Some(format!("{place}: {}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    };
    let said: Vec<String> = [say("before inlet's", before), say("after it", after)].into_iter().flatten().collect();
    let what = format!("other programs are on the sk_lookup hook, {}", said.join("; "));
    let why =
        "they may choose a socket for any packet, and refuse what inlet lets pass; inlet does not know what they do";
    let fix = "look at them with: bpftool prog show id NUMBER, and: bpftool link | grep -A1 netns";
    found.add(Severity::Warning, "other-programs", what, why, fix);
    Ok(())
}

/// What hands marks over: without it no packet has a mark that is known.
fn marks(snapshot: &Snapshot, found: &mut Checkup) -> Result<()> {
    let missing: Vec<&str> = missing(&snapshot.files.marks(), snapshot.ruleset())?
        .into_iter()
        .map(|family| if family == Family::V4 { "IPv4" } else { "IPv6" })
        .collect();
    if !missing.is_empty() {
        let what = format!("the program that hands marks over is gone for {}", missing.join(" and "));
        let why = "rules with a mark match nothing there";
        found.add(Severity::Error, "marks-unknown", what, why, "make it anew with: inlet export | inlet apply -");
    }
    Ok(())
}
