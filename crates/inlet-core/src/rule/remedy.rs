//! What to do about an error, apart from what is wrong.

use std::borrow::Cow;
use std::error::Error;

/// An error that knows the next step. Its message says what is wrong and nothing else.
pub trait Remedy: Error {
    /// What to do about it, in one line; `None` when nothing in particular helps.
    fn remedy(&self) -> Option<Cow<'_, str>>;
}
