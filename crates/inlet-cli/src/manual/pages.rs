//! The man pages: one for each command, made of the arguments and the table, and `inlet.toml(5)`.

use clap::{Arg, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::{Entry, entry, format, help, introduced, table, visible};

/// When the pages last changed. It is no date of the run, so that the same sources give the same pages.
const DATE: &str = "2026-11-28";
const VERSION: &str = concat!("inlet ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "Inlet Manual";

/// A line of the source has about so many characters.
const LINE: usize = 50;

const FILES: [(&str, &str); 1] = [(
    "/sys/fs/bpf/inlet/netns-COOKIE/",
    "The state of one network namespace. COOKIE is the kernel's number for the namespace. The kernel keeps the state until \
     the next boot; `inlet down` removes it.",
)];

const ENVIRONMENT: [(&str, &str); 3] = [
    ("INLET_BPFFS", "The bpf filesystem that holds the state, unless `--bpffs` is given. The default is /sys/fs/bpf."),
    ("COLUMNS", "The width of tables, in place of the width of the terminal."),
    ("NO_COLOR", "If it is set, output has no colours."),
];

/// A man page.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) section: u8,
    pub(crate) text: Vec<u8>,
}

/// All pages.
pub(crate) fn pages() -> Vec<Page> {
    let mut command = help::command();
    command.build();
    let of = |(words, command): (String, &Command)| page(&words, command);
    let mut pages = vec![page("", &command)];
    pages.extend(visible(&command).into_iter().map(of));
    let (about, body) = (format::ABOUT, format::ruleset());
    pages.push(finish("inlet.toml", 5, about, |roff| roff.extend([body])));
    pages
}

/// The head that each page has, and then what is written by `body`.
fn finish(name: &str, section: u8, about: &str, body: impl FnOnce(&mut Roff)) -> Page {
    let mut roff = Roff::new();
    roff.control("TH", [name.to_uppercase().as_str(), &section.to_string(), DATE, VERSION, MANUAL]);
    roff.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
    body(&mut roff);
    let mut text = Vec::new();
    // Writing to a Vec does not fail.
    let _ = roff.to_writer(&mut text);
    Page { name: name.to_owned(), section, text }
}

fn page_name(words: &str) -> String {
    ["inlet"].into_iter().chain(words.split_whitespace()).collect::<Vec<_>>().join("-")
}

/// The page of a command; the words of its name are empty for `inlet` itself.
fn page(words: &str, command: &Command) -> Page {
    let about = about(command);
    finish(&page_name(words), 1, &lower(&about), |roff| {
        synopsis(roff, command);
        description(roff, command, &about);
        commands(roff, words, command);
        arguments(roff, command);
        if let Some(entry) = entry(words) {
            list(roff, "EXIT STATUS", entry.statuses.iter().map(|(code, meaning)| (*code, sentence(meaning))));
        }
        let environment = ENVIRONMENT.iter().chain(environment(words));
        list(roff, "ENVIRONMENT", environment.map(|(name, meaning)| (*name, (*meaning).to_owned())));
        list(roff, "FILES", FILES.iter().map(|(name, meaning)| (*name, (*meaning).to_owned())));
        if let Some(entry) = entry(words) {
            examples(roff, entry);
            see_also(roff, words, command, entry);
        }
    })
}

/// Variables that only some commands read.
fn environment(words: &str) -> &'static [(&'static str, &'static str)] {
    match words {
        "register" => &[("LISTEN_FDS", "With LISTEN_PID, what systemd passes; see sd_listen_fds(3).")],
        "apply" | "bind" | "unbind" | "rollback" => {
            &[("SSH_CONNECTION", "The SSH session whose listener may not lose packets without `--force`.")]
        }
        _ => &[],
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// With a small letter in front, as a name section has it.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let text: String = chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default();
    if text.ends_with(['.', '?']) { text } else { text + "." }
}

/// Text in which what stands between backticks is bold.
fn inlines(text: &str) -> Vec<Inline> {
    let part = |(at, part): (usize, &str)| if at % 2 == 1 { bold(part) } else { roman(part) };
    filled(text.split('`').enumerate().filter(|(_, part)| !part.is_empty()).map(part))
}

/// The same words with line breaks between them, so that no line of the source is long. What shows a page fills its own
/// lines.
pub(super) fn filled(words: impl IntoIterator<Item = Inline>) -> Vec<Inline> {
    let mut column = 0;
    let mut fill = |text: String| {
        let mut filled = String::with_capacity(text.len());
        for (number, word) in text.split([' ', '\n']).enumerate() {
            if number > 0 && column + word.len() > LINE {
                filled.push('\n');
                column = 0;
            } else if number > 0 {
                filled.push(' ');
            }
            filled.push_str(word);
            column += word.len() + 1;
        }
        filled
    };
    let one = |word| match word {
        Inline::Roman(text) => Inline::Roman(fill(text)),
        Inline::Bold(text) => Inline::Bold(fill(text)),
        Inline::Italic(text) => Inline::Italic(fill(text)),
        Inline::LineBreak => Inline::LineBreak,
    };
    words.into_iter().map(one).collect()
}

fn synopsis(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    let lines = usage.trim_start_matches("Usage:").lines().map(str::trim);
    for (number, line) in lines.enumerate() {
        if number > 0 {
            roff.control("br", []);
        }
        roff.text(usage_words(line));
    }
}

/// The words of a usage line: what is to be typed is bold, what is to be replaced italic.
fn usage_words(line: &str) -> Vec<Inline> {
    let mut words = Vec::new();
    for (number, word) in line.split(' ').enumerate() {
        if number > 0 {
            words.push(roman(" "));
        }
        let literal = word.starts_with('-') || word.chars().all(|c| c.is_ascii_lowercase());
        words.push(if literal { bold(word) } else { italic(word.replace(['<', '>'], "")) });
    }
    words
}

fn description(roff: &mut Roff, command: &Command, about: &str) {
    roff.control("SH", ["DESCRIPTION"]);
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let more: Vec<&str> = long.split("\n\n").skip(1).collect();
    for (number, paragraph) in [sentence(about).as_str()].into_iter().chain(more).enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text(inlines(paragraph));
    }
}

/// The commands below this one, those of `inlet` in their groups.
fn commands(roff: &mut Roff, words: &str, command: &Command) {
    let item = |roff: &mut Roff, name: &str| {
        let Some(sub) = command.find_subcommand(name).filter(|_| name != "help") else { return };
        let name = page_name(&format!("{words} {name}"));
        roff.control("TP", []).text([bold(name), roman("(1)")]).text(inlines(&sentence(&about(sub))));
    };
    let below: Vec<&str> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name).collect();
    if below.is_empty() {
        return;
    }
    roff.control("SH", ["COMMANDS"]);
    if words.is_empty() {
        for group in &table::GROUPS {
            roff.control("SS", [group.title]);
            group.commands.iter().for_each(|name| item(roff, name));
        }
    } else {
        below.iter().for_each(|name| item(roff, name));
    }
}

fn arguments(roff: &mut Roff, command: &Command) {
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    let is_global = |arg: &&Arg| arg.get_help_heading().is_some();
    let kinds: [(&str, Vec<&Arg>); 3] = [
        ("ARGUMENTS", shown().filter(|arg| arg.is_positional()).collect()),
        ("OPTIONS", shown().filter(|arg| !arg.is_positional() && !is_global(arg)).collect()),
        ("GLOBAL OPTIONS", shown().filter(is_global).collect()),
    ];
    for (title, args) in kinds.into_iter().filter(|(_, args)| !args.is_empty()) {
        roff.control("SH", [title]);
        for arg in args {
            roff.control("TP", []).text(argument(arg)).text(inlines(&argument_help(arg)));
        }
    }
}

/// How an argument is written.
fn argument(arg: &Arg) -> Vec<Inline> {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    if arg.is_positional() {
        return vec![italic(value)];
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    match arg.get_action().takes_values() {
        true => vec![bold(flags), roman(" "), italic(value)],
        false => vec![bold(flags)],
    }
}

fn argument_help(arg: &Arg) -> String {
    let mut text = sentence(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
        text += &format!(" One of: {}.", values.join(", "));
    }
    if !arg.is_hide_default_value_set() && arg.get_action().takes_values() {
        let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        defaults.for_each(|value| text += &format!(" The default is {value}."));
    }
    text
}

fn list<'a>(roff: &mut Roff, title: &str, items: impl Iterator<Item = (&'a str, String)>) {
    roff.control("SH", [title]);
    for (name, meaning) in items {
        roff.control("TP", []).text([bold(name)]).text(inlines(&meaning));
    }
}

fn examples(roff: &mut Roff, entry: &Entry) {
    roff.control("SH", ["EXAMPLES"]);
    for (number, (what, line)) in entry.examples.iter().enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(introduced(what))]);
        roff.control("PP", []);
        verbatim(roff, line);
    }
}

/// Lines as they stand, with a margin.
pub(super) fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("RS", ["4"]).control("nf", []);
    // An empty line would be no line.
    for line in text.lines() {
        roff.text([roman(if line.is_empty() { " " } else { line })]);
    }
    roff.control("fi", []).control("RE", []);
}

fn see_also(roff: &mut Roff, words: &str, command: &Command, entry: &Entry) {
    // Names of pages are not hyphenated.
    roff.control("SH", ["SEE ALSO"]).control("nh", []).control("ad", ["l"]);
    let mut pages: Vec<String> = Vec::new();
    if words.is_empty() {
        pages.extend(visible(command).into_iter().map(|(words, _)| format!("{}(1)", page_name(&words))));
    } else {
        pages.push("inlet(1)".to_owned());
    }
    pages.extend(entry.see_also.iter().map(|page| (*page).to_owned()));
    roff.text(filled([roman(pages.join(", "))]));
}
