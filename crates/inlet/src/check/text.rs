//! Commands and matches as an operator types them.

use inlet_core::{Match, Ruleset};

use crate::error::Error;

/// The words of `bind` and `unbind` for a match: `tcp 192.0.2.0/24 80 --from 203.0.113.0/24 --iface eth0`.
pub(super) fn words(ruleset: &Ruleset, matching: &Match) -> String {
    let Match { protocol, local, ports, source, iface } = matching;
    let source = source.map_or_else(String::new, |source| format!(" --from {source}"));
    let iface = iface.map_or_else(String::new, |id| format!(" --iface {}", ruleset.interface(id).name));
    format!("{protocol} {local} {ports}{source}{iface}")
}

/// A message in two: what is amiss, and the next step, which stands after the first semicolon.
pub(super) fn parts(error: &Error) -> (String, String) {
    let text = error.to_string();
    let (what, step) = text.split_once("; ").unwrap_or((&text, ""));
    (what.to_owned(), step.to_owned())
}

/// A name as a shell takes it.
pub(super) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}
