//! The kit's one error: what was attempted, on what, and the cause. It must not hide the cause's kind.

use std::fmt::Display;
use std::io;

/// What the kit's constructors return.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation of the kit that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {cause}")]
pub struct Error {
    operation: &'static str,
    object: String,
    cause: io::Error,
}

impl Error {
    /// The kind of the cause, for tests that expect a refusal.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }

    /// The cause itself.
    #[must_use]
    pub fn cause(&self) -> &io::Error {
        &self.cause
    }
}

/// Names the operation and its object on the way up.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, object: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, operation: &'static str, object: impl Display) -> Result<T> {
        self.map_err(|cause| Error { operation, object: object.to_string(), cause: cause.into() })
    }
}
