//! Rulesets in words: the one that an image was compiled from, and the previous one beside it.

mod previous;
mod ruleset;
mod valid;

pub use previous::Previous;
pub(super) use ruleset::{Encoded, encode};
pub use ruleset::{SourceError, decode};
