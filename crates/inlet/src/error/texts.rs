//! Parts of messages: lists of sockets and processes, names as a shell takes them, next steps.

use std::borrow::Cow;
use std::path::Path;

use inlet_core::{Endpoint, Match, Ruleset};

use super::{Refusal, Refused};

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

/// Endpoints within a sentence.
pub(super) fn several(endpoints: &[Endpoint]) -> String {
    let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!("{} ", texts.join(", ")) }
}

/// Arguments that name endpoints, as a shell takes them.
pub(super) fn choices(endpoints: &[Endpoint]) -> String {
    let argument = |endpoint: &Endpoint| format!(" --listen {}", quoted(&endpoint.to_string()));
    let mut arguments: String = endpoints.iter().take(LISTED).map(argument).collect();
    if endpoints.len() > LISTED {
        arguments.push_str(&format!(" (and {} more)", endpoints.len() - LISTED));
    }
    arguments
}

/// How to get a directory for all instances that is only ours to change.
pub(super) fn take_back(path: &Path, owner: u32) -> String {
    let path = quoted_path(path);
    match owner == 0 || owner == rustix::process::geteuid().as_raw() {
        true => format!("chmod go-w {path}"),
        false => format!("if nobody needs what is in it, remove it with: rm -r {path}"),
    }
}

/// The processes that have a directory locked.
pub(super) fn by_whom(holders: &[u32]) -> String {
    let holders: Vec<String> = holders.iter().map(u32::to_string).collect();
    match holders.as_slice() {
        [] => String::new(),
        [one] => format!(" by process {one}"),
        several => format!(" by processes {}", several.join(", ")),
    }
}

/// What to do about processes that have a directory locked.
pub(super) fn wait_for(path: &Path, holders: &[u32]) -> Cow<'static, str> {
    match holders {
        [] => format!("list the processes that have it open with: fuser -v {}", quoted_path(path)).into(),
        [_] => "try again when it is done".into(),
        _ => "try again when they are done".into(),
    }
}

/// A text as one word of a shell: whatever it holds, the shell does nothing with it.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The words of `bind` and `unbind` for a match: `tcp 192.0.2.0/24 80 --from 203.0.113.0/24 --iface eth0
/// --mark 0x1`.
pub(crate) fn words(ruleset: &Ruleset, matching: &Match) -> String {
    let Match { protocol, local, ports, source, iface, mark } = matching;
    let source = source.map_or_else(String::new, |source| format!(" --from {source}"));
    let iface = iface.map_or_else(String::new, |id| format!(" --iface {}", ruleset.interface(id).name));
    let mark = mark.map_or_else(String::new, |mark| format!(" --mark {mark}"));
    format!("{protocol} {local} {ports}{source}{iface}{mark}")
}

/// A path as one word of a shell.
pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_text_as_it_is() {
        for text in ["web", "a b", "a$(id)", "a`id`", "it's", "*", "tcp:[::1]:80", "\"$HOME\"", "a;id", "\\", ""] {
            let line = format!("printf %s {}", quoted(text));
            let ran = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(ran.stdout).unwrap(), text, "{line}");
        }
        assert_eq!(quoted("udp:192.0.2.1:53"), "udp:192.0.2.1:53");
    }
}
