//! Everything that can go wrong, to match on and to read.
//!
//! Each room has an enum of its own. A message tells the operation, the object and the cause in one line, in lower
//! case. The next step is not a part of it: [`Error::remedy`] has that. The cause that the kernel gave is in the chain
//! of sources.

mod answers;
mod cause;
mod commit;
mod confirm;
mod describe;
mod file;
mod grant;
mod kernel;
mod refusal;
mod route;
mod socket;
mod state;
mod texts;

use std::borrow::Cow;
use std::io;

use inlet_core::config::Diagnostics;
use inlet_core::image::ImageError;
use inlet_core::{BuildError, DescriptionError, InterfaceNameError, NameError, Remedy, ServiceError};

pub use self::answers::AnswersError;
pub use self::commit::CommitError;
pub use self::confirm::ConfirmError;
pub use self::describe::DescribeError;
pub use self::file::FileError;
pub use self::grant::GrantedError;
pub use self::kernel::KernelError;
pub(crate) use self::kernel::not_listed;
pub use self::refusal::{Refusal, Refused};
pub use self::route::RouteError;
pub use self::socket::SocketError;
pub use self::state::StateError;

pub(crate) use self::cause::Cause;
use self::texts::last_words;
pub(crate) use self::texts::{quoted, quoted_path, words};

/// The result of what can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Unless the message says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong with the instance, or with where it is kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel does not have something, or not for us.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A service does not get a socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Sockets cannot be found by a description.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// Answers do not leave from where they were asked.
    #[error(transparent)]
    Answers(#[from] AnswersError),
    /// The local routes that rules need cannot be made.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A ruleset file is wrong or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A commit is refused, or something is left to do after it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A ruleset cannot be confirmed or taken back.
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    /// It was not granted, or nobody could be asked.
    #[error(transparent)]
    Granted(#[from] GrantedError),
    /// No service has this name.
    #[error("no service {0:?}")]
    UnknownService(String),
    /// No rule has exactly this match.
    #[error("no rule {0}")]
    NoRule(String),
    /// The program in force answers other than the specification.
    #[error(
        "the program in force and the rules disagree about {packet}: the rules say {rules}, the program says {program}"
    )]
    Disagree {
        /// The packet.
        packet: String,
        /// What the rules say.
        rules: String,
        /// What the program says.
        program: String,
    },
    /// Rules that do not make a ruleset.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A ruleset that does not fit in an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A bad name of a service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A bad name of an interface.
    #[error(transparent)]
    InterfaceName(#[from] InterfaceNameError),
    /// A change to the services that is not possible.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A description that is none.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A call to the kernel failed.
    #[error("cannot {operation} {object}: {cause}")]
    Os {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
    /// The kernel did not load the program.
    #[error("cannot load the program: {cause}{}", last_words(log))]
    Load {
        /// What the kernel said.
        cause: io::Error,
        /// What libbpf and the verifier said last, in many lines.
        log: String,
    },
}

impl Error {
    /// The next step, when there is one: a command, or what to do where no command can.
    pub fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::State(error) => error.remedy(),
            Self::Kernel(error) => error.remedy(),
            Self::Socket(error) => error.remedy(),
            Self::Describe(error) => error.remedy(),
            Self::Answers(error) => error.remedy(),
            Self::Route(error) => error.remedy(),
            Self::Commit(error) => error.remedy(),
            Self::Confirm(error) => error.remedy(),
            Self::Granted(error) => error.remedy(),
            Self::UnknownService(name) => Some(
                format!("list them with: inlet services; or create it with: inlet service set {}", quoted(name)).into(),
            ),
            Self::NoRule(_) => Some("list the rules with: inlet rules".into()),
            Self::Disagree { .. } => Some("please report this".into()),
            Self::Build(error) => error.remedy(),
            Self::Image(error) => error.remedy(),
            Self::Name(error) => error.remedy(),
            Self::InterfaceName(error) => error.remedy(),
            Self::Service(error) => error.remedy(),
            Self::Description(error) => error.remedy(),
            Self::File(error) => error.remedy(),
            Self::Os { .. } | Self::Load { .. } => None,
        }
    }
}

impl From<Diagnostics> for Error {
    fn from(found: Diagnostics) -> Self {
        Self::File(found.into())
    }
}
