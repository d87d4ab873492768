//! `--help`: the commands as clap has them, with groups, examples and exit statuses.

use std::fmt::Write as _;

use clap::builder::Styles;
use clap::{Command, CommandFactory};

use super::{entry, introduced, table};
use crate::args::Cli;

/// Lines of help are not longer than this, however wide the terminal is.
const WIDTH: usize = 100;

/// What clap makes by itself.
const HELP: (&str, &str) = ("help", "Show the help of a command");

/// All commands.
pub(crate) fn command() -> Command {
    let command = explained(Cli::command().max_term_width(WIDTH), "");
    let template = template(&command);
    command.help_template(template)
}

/// A command and those below it, each with what the table says of it. `above` is the name of the one above with a
/// blank.
fn explained(command: Command, above: &str) -> Command {
    let command = command.mut_subcommands(|sub| {
        let name = format!("{above}{}", sub.get_name());
        let below = format!("{name} ");
        let text = entry(&name).map(|entry| after(entry.examples, entry.statuses));
        let sub = explained(sub, &below);
        match text {
            Some(text) => sub.after_help(text),
            None => sub,
        }
    });
    match entry("").filter(|_| above.is_empty()) {
        Some(entry) => command.after_help(after(entry.examples, entry.statuses)),
        None => command,
    }
}

fn heading(title: &str) -> String {
    let style = Styles::default().get_header().to_owned();
    format!("{style}{title}:{style:#}")
}

/// Examples and exit statuses.
fn after(examples: &[(&str, &str)], statuses: &[(&str, &str)]) -> String {
    let mut text = heading("Examples");
    // Writing to a String does not fail.
    for (what, line) in examples {
        let _ = write!(text, "\n  {}\n    {line}", introduced(what));
    }
    let _ = write!(text, "\n\n{}", heading("Exit status"));
    let width = statuses.iter().map(|(code, _)| code.len()).max().unwrap_or(0);
    for (code, meaning) in statuses {
        let _ = write!(text, "\n  {code:width$}  {meaning}");
    }
    text
}

/// The help of `inlet` itself: clap knows one list of commands only, so the groups are written here.
fn template(command: &Command) -> String {
    let literal = Styles::default().get_literal().to_owned();
    let names = || table::GROUPS.iter().flat_map(|group| group.commands);
    let width = names().map(|name| name.len()).max().unwrap_or(0);
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for group in &table::GROUPS {
        let _ = write!(text, "\n{}\n", heading(group.title));
        for name in group.commands {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(|| HELP.1.to_owned(), ToString::to_string);
            let _ = writeln!(text, "  {literal}{name:width$}{literal:#}  {about}");
        }
    }
    let _ = write!(text, "\n{}\n{{options}}{{after-help}}\n", heading("Options"));
    text + "\nThe help of a command: inlet help COMMAND\n"
}
