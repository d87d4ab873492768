//! Reads the rules of a large JSON file with two threads.

use super::rule::{Known, RuleText};
use crate::config::sets::Sets;
use crate::ruleset::Builder;
use crate::threads::join;

/// A shorter text is read before a thread has started.
const WORTHWHILE: usize = 1 << 20;

/// The white space of JSON (RFC 8259, section 2).
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// A text whose last key is `rules`, cut in three.
///
/// The text is cut before it is parsed. That the cuts were right follows when all parts can be read. The head with an
/// empty list is a whole file. The first half is a list of rules up to its very end. The second half is a list of rules
/// that ends list and file.
pub(super) struct Halves<'a> {
    /// Everything before the rules, with an empty list of them.
    pub(super) head: String,
    first: &'a str,
    second: &'a str,
}

impl<'a> Halves<'a> {
    /// Cuts a text that is long enough for that.
    pub(super) fn worthwhile(text: &'a str) -> Option<Self> {
        if text.len() < WORTHWHILE { None } else { Self::of(text) }
    }

    /// Cuts a text; `None` when it cannot be cut.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let key = "\"rules\"";
        let value = text[text.find(key)? + key.len()..].trim_start_matches(BLANK).strip_prefix(':')?;
        let rules = value.trim_start_matches(BLANK).strip_prefix('[')?;
        let (head, _) = text.split_at(text.len() - rules.len());
        let middle = rules.len() / 2;
        let end = rules.as_bytes()[middle..].windows(2).position(|bytes| bytes == b"},")?;
        let (first, rest) = rules.split_at(middle + end + 1);
        Some(Self { head: format!("{head}]}}"), first, second: &rest[1..] })
    }

    /// Reads each half into a copy of this builder.
    pub(super) fn rules(&self, builder: &Builder, sets: &Sets) -> Option<(Builder, Builder)> {
        let second = || read(self.second, builder.clone(), sets).filter(|(_, rest)| is_end(rest));
        let (second, first) = join(true, second, || read(self.first, builder.clone(), sets));
        let ((first, rest), (second, _)) = (first?, second?);
        rest.is_empty().then_some((first, second))
    }
}

/// Reads rules with commas between them, and gives the rest of the text.
fn read<'a>(mut rest: &'a str, mut builder: Builder, sets: &Sets) -> Option<(Builder, &'a str)> {
    let mut known = Known::default();
    loop {
        let mut rules = serde_json::Deserializer::from_str(rest).into_iter::<RuleText<'a>>();
        rules.next()?.ok()?.push_to(&mut builder, sets, &mut known)?;
        rest = rest[rules.byte_offset()..].trim_start_matches(BLANK);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    builder.put_in_order();
    Some((builder, rest))
}

/// Whether this ends the list of rules and the file.
fn is_end(rest: &str) -> bool {
    let after_list = rest.strip_prefix(']').map(|rest| rest.trim_start_matches(BLANK));
    after_list.and_then(|rest| rest.strip_prefix('}')).is_some_and(|rest| rest.trim_start_matches(BLANK).is_empty())
}
