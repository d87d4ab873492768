//! Why somebody without the rights to change all may not change something, or cannot ask for it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// Why a change is not made for somebody who has only what was granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantedError {
    /// It was not granted.
    #[error("not granted to {caller}: {what}")]
    Denied {
        /// Who asked.
        caller: String,
        /// What was asked for.
        what: String,
        /// What is granted.
        grants: Vec<String>,
    },
    /// A rule is another service's, or nobody's.
    #[error("not granted to {caller}: rule {rule} is not one for a service of the grants")]
    OtherRule {
        /// Who asked.
        caller: String,
        /// The rule.
        rule: String,
    },
    /// The service has as many rules as who has only grants may give it.
    #[error("service {service:?} has {max} rules or more, the most that a grant gives it")]
    ManyRules {
        /// The service.
        service: String,
        /// How many.
        max: usize,
    },
    /// The request cannot be read.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// A listener that is none of this kind was given to `inlet grantd`.
    #[error("{0} is not a socket that listens for messages (SOCK_SEQPACKET)")]
    NotListening(String),
    /// `inlet grantd` cannot listen at a path, as somebody has it.
    #[error("cannot listen at {path:?}: there is {what}")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// `inlet grantd` refuses; this is what it says.
    #[error("{message}")]
    Refused {
        /// What it says.
        message: String,
        /// The next step that it names.
        fix: Option<String>,
    },
    /// `inlet grantd` does not answer.
    #[error("inlet grantd at {path} does not answer: {cause}")]
    Silent {
        /// Its socket.
        path: PathBuf,
        /// What happened.
        cause: io::Error,
    },
}

impl GrantedError {
    pub(super) fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Denied { grants, .. } if grants.is_empty() => {
                Some("nothing is granted to it; who changes the ruleset can, with grants = [...] in its file".into())
            }
            Self::Denied { grants, .. } => Some(format!("what is granted to it: {}", grants.join("; ")).into()),
            Self::OtherRule { .. } => Some("list the rules with: inlet rules".into()),
            Self::ManyRules { .. } => Some("use wider prefixes and port ranges".into()),
            Self::NotListening(_) => {
                Some("start it by its socket unit, inlet-grantd.socket, or give --socket PATH".into())
            }
            Self::InTheWay { .. } => Some("give another path with --socket, or end that program".into()),
            Self::Refused { fix, .. } => fix.as_deref().map(Cow::Borrowed),
            Self::Silent { .. } => Some("look at it with: systemctl status inlet-grantd.socket".into()),
            Self::Malformed(_) => None,
        }
    }
}
