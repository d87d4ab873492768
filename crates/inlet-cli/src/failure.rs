//! Why a command did not do its work, and how it says so on stderr: one line, and the next step on a line of its own;
//! or all that is wrong with a file.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use inlet::Refusal;
use inlet::rules::{Remedy, remedy_of};
use inlet_import::{ImportError, Left};

use crate::render::{diagnostics, printable};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says no.
    Inlet(inlet::Error),
    /// What was asked for is done and shown, and what it shows is a failure.
    Found,
    /// A file of this name does not hold what is to be translated.
    Import(String, ImportError),
    /// A comment of a ruleset file says that something has to be decided first.
    Todo { file: String, line: usize },
    /// These could not be translated; all the rest is done.
    Untranslated(Vec<Left>),
    /// A socket is there and cannot be adopted; what else could be is.
    NotAdopted(String, Refusal),
    /// Output cannot be written.
    Output(io::Error),
    /// The same, of a command that has made its change.
    OutputAfter(io::Error),
    /// The arguments are of no known shape, or one of them has a bad value.
    Clap(clap::Error),
    /// An argument that the command itself reads has a bad value.
    Value(&'static str, Box<dyn Error>),
}

impl Failure {
    /// The failure of a command that writes only once its change is made.
    pub(crate) fn after_change(self) -> Self {
        match self {
            Self::Output(cause) => Self::OutputAfter(cause),
            other => other,
        }
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(cause) | Self::OutputAfter(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether what was asked for is done in part.
    pub(crate) fn is_partial(&self) -> bool {
        matches!(self, Self::Untranslated(_) | Self::Inlet(inlet::Error::File(inlet::FileError::NotKept { .. })))
    }

    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Clap(_) | Self::Value(..))
    }

    /// Says it on stderr. Nothing is left to be done when that fails too.
    pub(crate) fn report(&self) {
        let line = match self {
            Self::Inlet(inlet::Error::File(inlet::FileError::Wrong(found))) => return drop(diagnostics(found)),
            Self::Inlet(error) => chain(error),
            Self::Found => return,
            Self::Import(file, error) => format!("{file}: {}", chain(error)),
            Self::Todo { file, line } => format!(
                "{file}: line {line} says that something has to be decided (TODO); decide and remove it, or apply with --ignore-todo"
            ),
            Self::Untranslated(left) => return untranslated(left),
            Self::NotAdopted(endpoint, reason) => format!("cannot adopt {endpoint}: {reason}"),
            Self::OutputAfter(cause) => format!("the change is in force, but the output cannot be written: {cause}"),
            Self::Output(cause) => format!("cannot write output: {cause}"),
            Self::Value(what, cause) => format!("{what}: {cause}"),
            Self::Clap(error) => match bad_value(error) {
                Some(line) => line,
                None => return drop(error.print()),
            },
        };
        say("error", &line, self.remedy());
    }

    /// The next step, when there is one.
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Inlet(error) => error.remedy(),
            Self::NotAdopted(_, reason) => reason.remedy().map(Cow::Borrowed),
            Self::Import(_, error) => error.remedy(),
            Self::Value(_, cause) => remedy_of(cause.as_ref()),
            Self::Clap(error) => remedy_of(error.source()?),
            _ => None,
        }
    }
}

/// A line on stderr, and the next step on another one.
fn say(kind: &str, line: &str, fix: Option<Cow<'_, str>>) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{kind}: {}", printable(line));
    if let Some(fix) = fix {
        let _ = writeln!(stderr, "fix: {}", printable(&fix));
    }
}

/// One line for each, as for errors.
fn untranslated(left: &[Left]) {
    for Left { place, text, why, todo } in left {
        let what = if *todo { "error" } else { "note" };
        let text = if text.is_empty() { String::new() } else { format!("{text}: ") };
        let said = if *todo { "not translated, " } else { "" };
        say(what, &format!("{said}{place}: {text}{why}").replace('\n', " "), None);
    }
}

/// Says on stderr what is no failure of the command, with the next step if there is one.
pub(crate) fn note(text: &str, fix: Option<String>) {
    say("note", text, fix.map(Cow::Owned));
}

/// Says on stderr what failed for one instance of several.
pub(crate) fn of(instance: &Path, error: &inlet::Error) {
    say("error", &format!("{}: {}", instance.display(), chain(error)), error.remedy());
}

/// Says on stderr that the namespace of an instance cannot be found.
pub(crate) fn without_namespace(instance: &Path) {
    let text =
        format!("{}: its network namespace has no name and no process, so it cannot be entered", instance.display());
    say("error", &text, Some("name the namespace: ip netns attach NAME PID, or --netns PATH".into()));
}

/// Writes a line to stderr that is no message to who ran the command: a journal reads it.
pub(crate) fn log(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// Says on stderr what the ruleset in force goes without.
pub(crate) fn without(error: &inlet::Error) {
    let text = format!("it is in force without this: {}", chain(error));
    say("note", &text, error.remedy());
}

/// The message and those of its causes which it does not tell already.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            let _ = write!(line, ": {text}");
        }
        next = cause.source();
    }
    line
}

/// One line for a bad value: the argument and what its type says. Clap would repeat the value, control characters and
/// all.
fn bad_value(error: &clap::Error) -> Option<String> {
    let cause = error.source().filter(|_| error.kind() == ErrorKind::ValueValidation)?;
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(format!("{argument}: {cause}")),
        _ => Some(cause.to_string()),
    }
}

impl From<inlet::Error> for Failure {
    fn from(error: inlet::Error) -> Self {
        Self::Inlet(error)
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        Self::Output(cause)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = io::Error::from_raw_os_error(1);
        let error = inlet::Error::Kernel(inlet::KernelError::Feature { what: "hook", since: "5.9", source: cause });
        assert_eq!(
            chain(&error),
            "this kernel has no hook, which came with Linux 5.9: Operation not permitted (os error 1)"
        );
        let cause = io::Error::from_raw_os_error(2);
        let error = inlet::Error::Os { operation: "open", object: "x".to_owned(), cause };
        assert_eq!(chain(&error), "cannot open x: No such file or directory (os error 2)");
    }
}
