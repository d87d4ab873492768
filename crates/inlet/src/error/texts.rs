//! Parts of messages: lists of sockets and processes, names as a shell takes them, next steps.

use std::path::Path;

use inlet_core::Remedy;

use crate::socket::{Endpoint, Refusal, Refused};

/// How many sockets a message names.
const LISTED: usize = 20;

/// The first of the sockets seen: those that could be had; connections, of which a busy server has thousands, last.
pub(super) fn listed(found: &[Endpoint], refused: &[Refused]) -> String {
    let count = found.len() + refused.len();
    if count == 0 {
        return "; it has no sockets at all".to_owned();
    }
    let mut seen: Vec<&Refused> = refused.iter().collect();
    seen.sort_by_key(|it| (it.reason == Refusal::Connected, it.reason != Refusal::NotAsked));
    let found = found.iter().map(ToString::to_string);
    let mut parts: Vec<String> = found.chain(seen.iter().map(ToString::to_string)).take(LISTED).collect();
    if count > LISTED {
        parts.push(format!("and {} more", count - LISTED));
    }
    format!("; seen: {}", parts.join("; "))
}

/// An error of the core and its remedy in one line.
pub(super) fn with_remedy(error: &impl Remedy) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}

/// Endpoints within a sentence.
pub(super) fn several(endpoints: &[Endpoint]) -> String {
    let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!("{} ", texts.join(", ")) }
}

/// Arguments that name endpoints, as a shell takes them. Brackets are a pattern to it.
pub(super) fn choices(endpoints: &[Endpoint]) -> String {
    let quote = |endpoint: &Endpoint| if endpoint.addr().is_ipv6() { "'" } else { "" };
    let argument = |endpoint| format!(" --listen {0}{endpoint}{0}", quote(endpoint));
    let mut arguments: String = endpoints.iter().take(LISTED).map(argument).collect();
    if endpoints.len() > LISTED {
        arguments.push_str(&format!(" (and {} more)", endpoints.len() - LISTED));
    }
    arguments
}

/// How to get a directory for all instances that is only ours to change.
pub(super) fn trusted(path: &Path, owner: u32) -> String {
    let path = path.display();
    match owner == 0 || owner == rustix::process::geteuid().as_raw() {
        true => format!("take their right away with: chmod go-w {path}"),
        false => format!("unless you know why it is there, remove it with: rm -r {path}"),
    }
}

/// Who has a directory locked, and what to do about it.
pub(super) fn in_use(path: &Path, holders: &[u32]) -> String {
    let holders: Vec<String> = holders.iter().map(u32::to_string).collect();
    match holders.as_slice() {
        [] => format!("; see who has it open with: fuser -v {}", path.display()),
        [one] => format!(" by process {one}; try again when it is done"),
        several => format!(" by processes {}; try again when they are done", several.join(", ")),
    }
}

/// A name as a shell takes it.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") }
}

/// The last line of a log that says something, for a message of one line.
pub(super) fn last_words(log: &str) -> String {
    let statistics =
        |line: &&str| line.starts_with("processed ") || line.starts_with("-- ") || line.contains("failed to load");
    match log.lines().rev().map(str::trim).filter(|line| !line.is_empty()).find(|line| !statistics(line)) {
        Some(line) => format!("; the verifier said: {line}"),
        None => String::new(),
    }
}
