//! Why a service does not get a socket.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::Refused;
use super::texts::{choices, listed, quoted, several};
use inlet_core::Endpoint;

/// Why a service does not get a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The process does not exist.
    #[error("process {0} does not exist")]
    NoProcess(u32),
    /// The sockets of the process may not be taken.
    #[error("no permission over process {pid}: taking its sockets needs {missing} or the same user")]
    ProcessDenied {
        /// The process.
        pid: u32,
        /// The capability that gives it.
        missing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file does not hold the number of a process, or whoever wrote it is not to be trusted with that.
    #[error("{path}: {why}")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// None of the sockets can be adopted, or none is at an endpoint that was asked for.
    #[error("{of} has no socket {}for service {service:?}{}", several(.absent), listed(.found, .refused))]
    NoSocket {
        /// The process or what else was asked.
        of: String,
        /// The service.
        service: String,
        /// The endpoints asked for that no socket has.
        absent: Box<[Endpoint]>,
        /// Those that a socket has.
        found: Box<[Endpoint]>,
        /// The other sockets that were seen, with the reason of each.
        refused: Box<[Refused]>,
    },
    /// The process has sockets at several ports: which of them a packet would reach is a matter of luck.
    #[error("{of} has sockets at several ports of a protocol")]
    SeveralPorts {
        /// The process.
        of: String,
        /// The service.
        service: String,
        /// Where its sockets are.
        endpoints: Vec<Endpoint>,
    },
    /// A socket serves another service already.
    #[error("socket {socket} serves {service:?} already")]
    Taken {
        /// The local address.
        socket: String,
        /// The service that has it.
        service: String,
    },
    /// The service has as many sockets as fit.
    #[error("service {service:?} has {max} {family} {protocol} sockets, the most that fit")]
    LaneFull {
        /// The service.
        service: String,
        /// The protocol.
        protocol: &'static str,
        /// The family.
        family: &'static str,
        /// How many fit.
        max: usize,
    },
    /// The instance has as many sockets as fit.
    #[error("the instance is full: it has room for {0} sockets of each family")]
    TooManySockets(u32),
    /// A service has no socket of a process.
    #[error("process {pid} has no socket that serves {service:?}")]
    NotServing {
        /// The service.
        service: String,
        /// The process.
        pid: u32,
    },
    /// Nobody else could take what a process is not to get any more.
    #[error(
        "service {service:?} has no {family} {protocol} socket but those of process {pid}: new ones would have no server"
    )]
    NoOther {
        /// The service.
        service: String,
        /// The process.
        pid: u32,
        /// The protocol.
        protocol: &'static str,
        /// The family.
        family: &'static str,
    },
    /// More sockets are being drained than fit.
    #[error("{0} sockets are being drained, the most that fit")]
    TooManyLeaving(u32),
    /// systemd gave no sockets.
    #[error("no sockets from systemd: {0}")]
    NoListenFds(String),
}

impl SocketError {
    pub(super) fn remedy(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::ProcessDenied { .. } => "run it as root".into(),
            // What was asked for and is not there is no matter of the sockets that are.
            Self::NoSocket { absent, .. } if !absent.is_empty() => return None,
            Self::NoSocket { refused, .. } => return refused.iter().find_map(|it| it.reason.remedy()).map(Into::into),
            Self::SeveralPorts { service, endpoints, .. } => {
                format!("say which are for {service:?} with some of:{}", choices(endpoints)).into()
            }
            Self::Taken { service, .. } => format!("inlet unregister {}", quoted(service)).into(),
            Self::TooManySockets(_) => {
                "unregister some; or begin anew with room for more: inlet down, inlet up --max-sockets N".into()
            }
            Self::NotServing { .. } => "see who has which sockets: inlet status".into(),
            Self::NoOther { service, .. } => format!(
                "start the new server, and give its sockets to the service first: inlet register {} --pid NEW",
                quoted(service)
            )
            .into(),
            Self::TooManyLeaving(_) => "end some of their programs".into(),
            Self::NoListenFds(_) => "start it from a service unit that has a socket unit".into(),
            Self::NoProcess(_) | Self::PidFile { .. } | Self::LaneFull { .. } => return None,
        })
    }
}
