//! The man page of ruleset files, made of docs/ruleset.md: one text for both.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, italic, roman};

use super::pages::{filled, verbatim};

/// What the page is about.
pub(super) const ABOUT: &str = "ruleset files of Inlet";

/// A link to docs/ruleset.md, which a packaged crate has a copy of.
const TEXT: &str = include_str!("../../ruleset.md");

/// What follows the name section.
pub(super) fn ruleset() -> Roff {
    let mut page = Body::default();
    Parser::new_ext(TEXT, Options::ENABLE_TABLES).for_each(|event| page.event(event));
    let Body { mut roff, .. } = page;
    roff.control("SH", ["SEE ALSO"]).control("nh", []).control("ad", ["l"]);
    let pages = "inlet(1), inlet-apply(1), inlet-plan(1), inlet-check(1), inlet-export(1), inlet-import(1)";
    roff.text(filled([roman(pages)]));
    roff
}

/// The page as far as it is written, and where in the text it is.
#[derive(Default)]
struct Body {
    roff: Roff,
    /// The words of the paragraph, heading, item or cell that is being read.
    words: Vec<Inline>,
    font: Font,
    /// The lines of a block of code that is being read.
    code: Option<String>,
    /// The number of the next item of each list that is being read; none for bullets.
    lists: Vec<Option<u64>>,
    /// The cells of the row that is being read.
    cells: Vec<Vec<Inline>>,
    /// Whether a paragraph begins on its own line: not the first of a section or of an item.
    spaced: bool,
}

#[derive(Clone, Copy, Default)]
enum Font {
    #[default]
    Roman,
    Bold,
    Italic,
}

impl Body {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text),
            Event::Code(text) => self.words.push(bold(text.into_string())),
            Event::SoftBreak | Event::HardBreak => self.words.push(roman("\n")),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        match (&mut self.code, self.font) {
            (Some(code), _) => code.push_str(text),
            (None, Font::Roman) => self.words.push(roman(text)),
            (None, Font::Bold) => self.words.push(bold(text)),
            (None, Font::Italic) => self.words.push(italic(text)),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => self.code = Some(String::new()),
            Tag::Strong => self.font = Font::Bold,
            Tag::Emphasis => self.font = Font::Italic,
            Tag::List(first) => self.lists.push(first),
            Tag::Item => self.item(),
            Tag::Paragraph if self.spaced => {
                self.roff.control("PP", []);
            }
            _ => {}
        }
    }

    /// The mark of an item: its number, or a bullet.
    fn item(&mut self) {
        match self.lists.last_mut() {
            Some(Some(number)) => {
                self.roff.control("IP", [format!("{number}.").as_str(), "4"]);
                *number += 1;
            }
            _ => {
                self.roff.control("IP", ["\\(bu", "2"]);
            }
        }
        self.spaced = false;
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::Item => self.paragraph(),
            TagEnd::List(_) => {
                self.lists.pop();
                self.spaced = true;
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().unwrap_or_default();
                if self.spaced {
                    self.roff.control("PP", []);
                }
                verbatim(&mut self.roff, code.trim_end());
                self.spaced = true;
            }
            TagEnd::Strong | TagEnd::Emphasis => self.font = Font::Roman,
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.words);
                self.cells.push(cell);
            }
            TagEnd::TableHead => self.table_head(),
            TagEnd::TableRow => self.row(),
            TagEnd::Table => self.spaced = true,
            _ => {}
        }
    }

    fn paragraph(&mut self) {
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.roff.text(filled(words));
            self.spaced = true;
        }
    }

    /// The title of the text begins the description.
    fn heading(&mut self, level: HeadingLevel) {
        let title = plain(&std::mem::take(&mut self.words));
        match level {
            HeadingLevel::H1 => self.roff.control("SH", ["DESCRIPTION"]),
            HeadingLevel::H2 => self.roff.control("SH", [title.to_uppercase().as_str()]),
            _ => self.roff.control("SS", [title.as_str()]),
        };
        self.spaced = false;
    }

    /// The heading of the first column says what the rows are, unless a heading of the text has just said it.
    fn table_head(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        if !self.spaced {
            return;
        }
        let title = cells.first().map(|cell| plain(cell)).unwrap_or_default();
        self.roff.control("PP", []);
        let mut letters = title.chars();
        let capital: String =
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
        self.roff.text([roman(format!("{capital}:"))]);
    }

    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        self.roff.control("TP", []).text(cells.next().unwrap_or_default());
        let rest: Vec<Vec<Inline>> = cells.filter(|cell| !cell.is_empty()).collect();
        self.roff.text(filled(rest.join(&roman("; "))));
    }
}

/// The text of some words.
fn plain(words: &[Inline]) -> String {
    let text = |word: &Inline| match word {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text.clone(),
        Inline::LineBreak => " ".to_owned(),
    };
    words.iter().map(text).collect()
}
