//! What is wrong with a ruleset: each error with its file, line and column and the text that it is about.

use std::io::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use anstream::{AutoStream, ColorChoice};
use inlet::rules::config::{Diagnostic, Diagnostics, Place, Source};
use serde::Serialize;

use super::{Screen, printable};
use crate::failure::Failure;

/// So many errors are shown in full.
const SHOWN: usize = 100;

/// Lines nearer to each other than this are shown in one piece.
const NEAR: usize = 5;

/// A place, how it is marked, and what is said there.
type Annotated<'a> = (&'a Place, AnnotationKind, Option<&'a str>);

/// Writes all of them to stderr, and how many there are.
pub(crate) fn diagnostics(found: &Diagnostics) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    let renderer = match AutoStream::choice(&stderr) {
        ColorChoice::Never => Renderer::plain(),
        _ => Renderer::styled(),
    };
    for diagnostic in found.list.iter().take(SHOWN) {
        writeln!(stderr, "{}\n", renderer.render(&[group(found, diagnostic)]))?;
    }
    let name = found.files.first().map_or("", |file| file.name.as_str());
    let more = if found.count() > SHOWN { format!(", of which the first {SHOWN} are shown") } else { String::new() };
    writeln!(stderr, "error: {}: {}{more}", printable(name), super::counted(found.count(), "error"))
}

fn group<'a>(found: &'a Diagnostics, diagnostic: &'a Diagnostic) -> Group<'a> {
    let Diagnostic { place, message, help, related, .. } = diagnostic;
    let here = (place, AnnotationKind::Primary, None);
    let mut snippets = vec![vec![here]];
    if let Some(related) = related {
        let other = &related.place;
        let there = (other, AnnotationKind::Context, Some(related.what));
        match other.file == place.file && other.line.abs_diff(place.line) < NEAR {
            true => snippets[0].push(there),
            false => snippets.push(vec![there]),
        }
    }
    let file = |places: &[Annotated<'a>]| found.files.get(places[0].0.file);
    let snippets = snippets.iter().filter_map(|places| snippet(file(places)?, places));
    let group = Level::ERROR.primary_title(printable(message)).elements(snippets);
    match help {
        Some(help) => group.element(Level::HELP.with_name("fix").message(printable(help))),
        None => group,
    }
}

/// The lines of places in one file. Only these are handed on: the file may have millions.
fn snippet<'a>(file: &'a Source, places: &[Annotated<'a>]) -> Option<Snippet<'a, Annotation<'a>>> {
    let (first, last) = (places.iter().min_by_key(by_start)?.0, places.iter().max_by_key(by_start)?.0);
    let (start, end) = (line_of(&file.text, first.span.start).start, line_of(&file.text, last.span.start).end);
    let annotations = places.iter().map(|(place, kind, label)| {
        // What goes on in the next line is shown where it begins.
        let line = line_of(&file.text, place.span.start);
        let annotation = kind.span(place.span.start - start..place.span.end.min(line.end) - start);
        match label {
            Some(label) => annotation.label(*label),
            None => annotation,
        }
    });
    let lines = Snippet::source(&file.text[start..end]).line_start(first.line);
    Some(lines.path(printable(&file.name)).annotations(annotations))
}

fn by_start((place, ..): &&Annotated<'_>) -> usize {
    place.span.start
}

/// The line that an offset is in, without its end.
fn line_of(text: &str, offset: usize) -> Range<usize> {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |at| offset + at);
    start..end
}

#[derive(Serialize)]
struct Report<'a> {
    errors: Vec<Entry<'a>>,
    more: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    at: At<'a>,
    message: &'a str,
    fix: Option<&'a str>,
    related: Option<Related<'a>>,
}

#[derive(Serialize)]
struct At<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    text: &'a str,
}

#[derive(Serialize)]
struct Related<'a> {
    #[serde(flatten)]
    at: At<'a>,
    what: &'a str,
}

/// All of them for programs.
pub(crate) fn errors(screen: &mut Screen<'_>, found: &Diagnostics) -> Result<(), Failure> {
    let entries = found.list.iter().map(|error| Entry {
        at: At::of(found, &error.place),
        message: &error.message,
        fix: error.help.as_deref(),
        related: error.related.as_ref().map(|other| Related { at: At::of(found, &other.place), what: other.what }),
    });
    screen.document(&Report { errors: entries.collect(), more: found.more })
}

impl<'a> At<'a> {
    fn of(found: &'a Diagnostics, place: &Place) -> Self {
        let Some(file) = found.files.get(place.file) else { return Self { file: "", line: 0, column: 0, text: "" } };
        let text = file.text.get(place.span.clone()).unwrap_or_default();
        Self { file: &file.name, line: place.line, column: place.column, text }
    }
}
