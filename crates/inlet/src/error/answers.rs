//! Why answers do not leave from where they were asked.

use std::borrow::Cow;

use super::Error;
use super::texts::quoted;

/// Why answers do not leave from where they were asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswersError {
    /// The host lacks what it takes.
    #[error("answers of service {service:?} cannot leave from where they are asked on this host: {cause}")]
    NotHere {
        /// The service, which insists on it.
        service: String,
        /// What is missing.
        #[source]
        cause: Box<Error>,
    },
}

impl AnswersError {
    pub(super) fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotHere { service, cause } => cause.remedy().or_else(|| {
                Some(
                    format!("let them leave from the socket: inlet service set {} --answers bound", quoted(service))
                        .into(),
                )
            }),
        }
    }
}
