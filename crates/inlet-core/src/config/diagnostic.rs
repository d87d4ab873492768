//! What is wrong with a ruleset, and where: every error of all its files at once, each with the bytes that it is about.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// So many errors are kept; more are only counted. A file of a million rules may have a million of them.
const KEPT: usize = 1000;

/// A file of a ruleset: the ruleset's own, one that it includes, or the text of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Where it is; files that it names are relative to it. `None` for text without a file: then they are relative to
    /// the
    /// working directory.
    pub path: Option<PathBuf>,
    /// What it holds.
    pub text: Arc<String>,
}

/// The number of a file in [`Diagnostics::files`].
pub type FileId = usize;

/// A part of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The bytes, which begin and end between characters.
    pub span: Range<usize>,
    /// The line in which they begin, from 1 on.
    pub line: usize,
    /// The character of the line with which they begin, from 1 on.
    pub column: usize,
}

/// An error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub place: Place,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub help: Option<String>,
    /// Another place that has to do with it.
    pub related: Option<Box<Related>>,
    kind: Kind,
}

/// A place that has to do with an error elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Where it is.
    pub place: Place,
    /// What it is, in a few words.
    pub what: &'static str,
}

/// How far an error can be trusted when a file could be read in parts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The file could not be read from here on, or up to here.
    Syntax,
    /// Something is wrong with what stands there.
    Value,
    /// Something is not there. It may stand where the file could not be read.
    Absent,
}

/// Everything that is wrong with a ruleset, file by file from the top on.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// The files that were read.
    pub files: Vec<Source>,
    /// The errors; at least one, and the first thousand when there are more.
    pub list: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

impl Source {
    /// Text that is not in a file, such as standard input.
    pub fn new(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), path: None, text: Arc::new(text) }
    }

    /// The text of a file.
    pub fn file(path: impl Into<PathBuf>, text: String) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), path: Some(path), text: Arc::new(text) }
    }
}

impl Place {
    pub(super) fn new(file: FileId, span: Range<usize>) -> Self {
        Self { file, span, line: 0, column: 0 }
    }

    /// By which places are put in order.
    pub(super) fn order(&self) -> (FileId, usize, usize) {
        (self.file, self.span.start, self.span.end)
    }

    /// Fills in line and column, from the offsets at which the lines of the file begin.
    fn locate(&mut self, text: &str, lines: &[usize]) {
        self.span.start = floor(text, self.span.start);
        self.span.end = floor(text, self.span.end).max(self.span.start);
        self.line = lines.partition_point(|start| *start <= self.span.start);
        let start = lines[self.line - 1];
        self.column = text[start..self.span.start].chars().count() + 1;
    }
}

/// The border between characters that is at this offset or before it.
pub(super) fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl Diagnostic {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, related: None, kind: Kind::Value }
    }

    pub(super) fn syntax(mut self) -> Self {
        self.kind = Kind::Syntax;
        self
    }

    pub(super) fn absent(mut self) -> Self {
        self.kind = Kind::Absent;
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn related(mut self, place: Place, what: &'static str) -> Self {
        self.related = Some(Box::new(Related { place, what }));
        self
    }
}

impl Diagnostics {
    /// How many errors there are.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        match self.list.len() {
            KEPT.. => self.more += 1,
            _ => self.list.push(diagnostic),
        }
    }

    /// Puts the errors in order, and tells line and column of each.
    pub(super) fn finish(mut self, files: Vec<Source>) -> Self {
        for (id, file) in files.iter().enumerate() {
            let mut places: Vec<&mut Place> = Vec::new();
            for diagnostic in &mut self.list {
                let related = diagnostic.related.as_mut().map(|related| &mut related.place);
                places.extend(std::iter::once(&mut diagnostic.place).chain(related).filter(|place| place.file == id));
            }
            if !places.is_empty() {
                let starts = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
                let lines: Vec<usize> = std::iter::once(0).chain(starts).collect();
                places.into_iter().for_each(|place| place.locate(&file.text, &lines));
            }
        }
        let broken: Vec<Place> =
            self.list.iter().filter(|told| told.kind == Kind::Syntax).map(|told| told.place.clone()).collect();
        if !broken.is_empty() {
            let near = |place: &Place| broken.iter().any(|other| (other.file, other.line) == (place.file, place.line));
            self.list.retain(|told| match told.kind {
                Kind::Syntax => true,
                Kind::Value => !near(&told.place),
                Kind::Absent => false,
            });
        }
        self.list.sort_by(|a, b| (a.place.order(), &a.message).cmp(&(b.place.order(), &b.message)));
        self.list.dedup();
        Self { files, ..self }
    }
}

impl fmt::Display for Diagnostics {
    /// One line an error: `rules.toml:3:9: port 0 cannot be matched; ports go from 1 to 65535`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Diagnostic { place, message, help, .. } in &self.list {
            let name = self.files.get(place.file).map_or("?", |file| file.name.as_str());
            write!(f, "{separator}{name}:{}:{}: {message}", place.line, place.column)?;
            if let Some(help) = help {
                write!(f, "; {help}")?;
            }
            separator = "\n";
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} errors more"),
        }
    }
}

impl std::error::Error for Diagnostics {}
