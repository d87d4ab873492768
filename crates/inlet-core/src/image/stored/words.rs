//! The words of what is stored, and what can be wrong with them.

use std::borrow::Cow;

use crate::image::format::HeaderError;
use crate::rule::Remedy;

/// Why the source part of an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The image cannot be read at all.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A part is cut off or has invalid values.
    #[error("image is damaged: its {0} cannot be read")]
    Damaged(&'static str),
}

impl Remedy for SourceError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Header(error) => error.remedy(),
            Self::Damaged(_) => None,
        }
    }
}

pub(super) fn push_text(words: &mut Vec<u32>, text: &str) {
    words.push(text.len() as u32);
    for chunk in text.as_bytes().chunks(4) {
        let mut bytes = [0; 4];
        bytes[..chunk.len()].copy_from_slice(chunk);
        words.push(u32::from_ne_bytes(bytes));
    }
}

pub(super) struct Words<'a>(pub(super) &'a [u32]);

impl<'a> Words<'a> {
    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u32], SourceError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SourceError::Damaged(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<String, SourceError> {
        let len = self.take(1, what)?[0] as usize;
        let mut bytes: Vec<u8> = self.take(len.div_ceil(4), what)?.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.truncate(len);
        String::from_utf8(bytes).map_err(|_| SourceError::Damaged(what))
    }
}
