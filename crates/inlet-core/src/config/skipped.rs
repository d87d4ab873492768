//! The lines that a lenient list is read without.

use std::fmt;
use std::ops::Range;

/// So many lines of a file are named. More are only counted.
const NAMED: usize = 5;
/// So much of a word is shown.
const SHOWN: usize = 40;

/// The lines of a list that are neither prefixes nor ranges, and that the list is read without, as the set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The name of the file.
    pub file: String,
    /// The first lines, counted from 1, each with its first word.
    pub lines: Vec<(usize, String)>,
    /// How many lines there are in all.
    pub count: usize,
}

impl Skipped {
    /// The lines of a text that have the words at these places; `None` when there are none.
    pub(super) fn of(file: &str, text: &str, words: &[Range<usize>]) -> Option<Self> {
        let (mut line, mut from) = (1, 0);
        let named = words.iter().take(NAMED).map(|word| {
            line += text[from..word.start].matches('\n').count();
            from = word.start;
            (line, text[word.clone()].chars().take(SHOWN).collect())
        });
        let lines: Vec<(usize, String)> = named.collect();
        (!lines.is_empty()).then(|| Self { file: file.to_owned(), lines, count: words.len() })
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lines, are] =
            if self.count == 1 { ["line", "is no prefix and is"] } else { ["lines", "are no prefixes and are"] };
        write!(f, "{}: {} {lines} {are} left out:", self.file, self.count)?;
        for (at, (line, word)) in self.lines.iter().enumerate() {
            write!(f, "{} {word:?} (line {line})", if at == 0 { "" } else { "," })?;
        }
        match self.count - self.lines.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_the_first_named() {
        let text = "192.0.2.0/24\nfoo x\n\n  bar\n".to_owned() + &"baz\n".repeat(9);
        let words: Vec<Range<usize>> = text.match_indices(['f', 'b']).map(|(at, _)| at..at + 3).collect();
        let skipped = Skipped::of("feed", &text, &words).unwrap();
        assert_eq!(
            skipped.to_string(),
            "feed: 11 lines are no prefixes and are left out: \"foo\" (line 2), \"bar\" (line 4), \"baz\" (line 5), \
             \"baz\" (line 6), \"baz\" (line 7), and 6 more"
        );
        let one = Skipped::of("feed", &text, &words[..1]).unwrap();
        assert_eq!(one.to_string(), "feed: 1 line is no prefix and is left out: \"foo\" (line 2)");
        assert_eq!(Skipped::of("feed", &text, &[]), None);
    }
}
