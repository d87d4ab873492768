//! What keeps a service from being made or changed.

use std::borrow::Cow;

use super::policy::Sticky;
use super::{Remedy, ServiceName};

/// How many numbers there are. Number 0 means no service, so a ruleset has at most one service fewer.
pub const MAX_SERVICES: u16 = 4096;

/// Why a change to the services is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// All numbers are taken.
    #[error("service {0}: {max} services are the most that fit", max = MAX_SERVICES - 1)]
    TooMany(ServiceName),
    /// `on_missing` is neither `refuse` nor `pass`.
    #[error("unknown on-missing policy {0:?}")]
    OnMissing(String),
    /// `spread` is neither `inlet` nor `group`.
    #[error("unknown spread {0:?}")]
    Spread(String),
    /// `answers` is neither `asked` nor `bound`.
    #[error("unknown source of answers {0:?}")]
    Answers(String),
    /// `sticky` is no number of seconds, or too large.
    #[error("sticky {0:?} is not a number of seconds from 0 to {max}", max = Sticky::MAX)]
    Sticky(String),
}

impl Remedy for ServiceError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::TooMany(_) => "remove one with: inlet service rm SERVICE".into(),
            Self::OnMissing(_) => "write refuse or pass".into(),
            Self::Spread(_) => "write inlet or group".into(),
            Self::Answers(_) => "write asked or bound".into(),
            Self::Sticky(_) => "write for how many seconds a silent flow stays, such as 120; 0 is not at all".into(),
        })
    }
}
