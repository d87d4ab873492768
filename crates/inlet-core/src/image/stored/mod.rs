//! Rulesets in words: the one that an image was compiled from, and the previous one beside it.

mod grants;
mod previous;
mod ruleset;
mod services;
mod valid;
mod words;

pub use previous::Previous;
pub use ruleset::decode;
pub(super) use ruleset::{Encoded, encode};
pub use words::SourceError;
