//! The table and the commands are one.

use std::collections::BTreeSet;

use clap::Command;

use super::table::{COMMANDS, GROUPS};
use super::{command, pages, visible};

fn built() -> Command {
    let mut command = command();
    command.build();
    command
}

#[test]
fn each_command_has_one_entry() {
    let command = built();
    let names: Vec<String> = ["".to_owned()].into_iter().chain(visible(&command).into_iter().map(|it| it.0)).collect();
    let entries: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
    assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), entries.iter().copied().collect());
    assert_eq!(entries.len(), names.len(), "an entry stands twice: {entries:?}");
    for entry in COMMANDS {
        assert!(!entry.examples.is_empty() && !entry.statuses.is_empty(), "{:?}", entry.name);
    }
}

#[test]
fn each_command_is_in_one_group() {
    let command = built();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name);
    let grouped: Vec<&str> = GROUPS.iter().flat_map(|group| group.commands).copied().collect();
    assert_eq!(shown.collect::<BTreeSet<_>>(), grouped.iter().copied().collect());
    assert_eq!(grouped.iter().collect::<BTreeSet<_>>().len(), grouped.len(), "a command stands twice: {grouped:?}");
}

/// Each `inlet` of an example, up to a pipe or a redirection.
#[test]
fn examples_parse() {
    for (what, line) in COMMANDS.iter().flat_map(|entry| entry.examples) {
        let parts = line.split(['|', ';', '(', ')']).filter_map(|part| part.trim().strip_prefix("inlet "));
        let parts: Vec<&str> = parts.map(|part| part.split(" >").next().unwrap_or_default()).collect();
        assert!(!parts.is_empty(), "{what}: {line}");
        for part in parts {
            let parsed = command().try_get_matches_from(["inlet"].into_iter().chain(part.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}

/// What people read first fits a terminal of 80 columns, and no example is broken.
#[test]
fn help_fits_80_columns() {
    let mut command = command().term_width(80);
    command.build();
    let all = [("".to_owned(), &command)].into_iter().chain(visible(&command));
    for (name, command) in all {
        let mut command = command.clone().term_width(80);
        let texts = [command.render_help(), command.render_long_help()].map(|text| text.to_string());
        let entry = super::entry(&name).unwrap();
        for text in texts {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            for (_, line) in entry.examples {
                assert!(text.contains(&format!("\n    {line}\n")), "{name}: {line}: {text}");
            }
            assert!(text.contains("Exit status:\n"), "{name}: {text}");
        }
    }
}

#[test]
fn pages_do_not_depend_on_the_run() {
    let texts = || pages().into_iter().map(|page| page.text).collect::<Vec<_>>();
    assert_eq!(texts(), texts());
    let head = String::from_utf8(texts().remove(0)).unwrap();
    assert!(head.contains(&format!("\"inlet {}\"", env!("CARGO_PKG_VERSION"))), "{head}");
}
