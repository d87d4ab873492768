//! Why no socket is found for a service that is described.

use std::fmt;

use inlet_core::{Listen, UserName};

/// How many services may want sockets of one address.
pub(super) const MAX_WANTS: usize = 8;

/// Why no socket is found for a service, whatever sockets there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is no such user.
    User(UserName),
    /// Another service wants the same sockets by different names of one user or control group.
    Same(Listen),
    /// So many services want sockets of one address that this one does not fit.
    Many(Listen),
}

impl NotFound {
    /// The next step.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::User(_) => "make the user, then: inlet adopt; or describe another one",
            Self::Same(_) => "let them differ in address, port, interface, user or control group",
            Self::Many(_) => "let them differ in address or port",
        }
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "there is no user {}", user.as_str()),
            Self::Same(listen) => {
                write!(f, "another service has the sockets at {listen} of the same user and control group")
            }
            Self::Many(listen) => write!(f, "{MAX_WANTS} other services have the sockets at {listen}"),
        }
    }
}
