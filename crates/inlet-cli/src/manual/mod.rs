//! What is said of each command beside its arguments: its group, examples, exit statuses, what to read next. `--help`
//! and the man pages are made of it, and a test compares it with the commands as clap has them.

mod format;
mod help;
mod pages;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use self::help::command;
pub(crate) use self::pages::{Page, pages};

/// Commands that belong together, in the order of `inlet --help`.
struct Group {
    title: &'static str,
    commands: &'static [&'static str],
}

/// What is said of one command.
struct Entry {
    /// Its name; a blank between the words of a nested one.
    name: &'static str,
    /// What a command line does, and the line.
    examples: &'static [(&'static str, &'static str)],
    /// Exit statuses and their meanings.
    statuses: &'static [(&'static str, &'static str)],
    /// Man pages to read next, without `inlet(1)`.
    see_also: &'static [&'static str],
}

/// The entry of a command, by the words of its name.
fn entry(name: &str) -> Option<&'static Entry> {
    table::COMMANDS.iter().find(|entry| entry.name == name)
}

/// The commands that people see, each with the words of its name: `service`, `service set`.
fn visible(command: &clap::Command) -> Vec<(String, &clap::Command)> {
    let mut all = Vec::new();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        all.push((sub.get_name().to_owned(), sub));
        all.extend(visible(sub).into_iter().map(|(name, nested)| (format!("{} {name}", sub.get_name()), nested)));
    }
    all
}

/// What introduces the command line of an example.
fn introduced(what: &str) -> String {
    if what.ends_with('?') { what.to_owned() } else { format!("{what}:") }
}
