//! Everything that can go wrong, to match on and to read.
//!
//! A message tells the object and the cause in one line, in lower case, then the next step when there is one. The cause
//! that the kernel gave is in the chain of sources.

use std::io;
use std::path::{Path, PathBuf};

use inlet_core::config::ConfigError;
use inlet_core::image::{ImageError, SourceError};
use inlet_core::{BuildError, InterfaceNameError, NameError, ServiceError};

use crate::socket::{Refusal, Refused};

/// The result of what can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Unless the message says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is no bpf filesystem.
    #[error("no bpf filesystem at {0}; mount one with: mount -t bpf bpf {0}")]
    NoBpfFs(PathBuf),
    /// There is no instance for the namespace.
    #[error("inlet is not up in {netns}; start it with: inlet up")]
    NotUp {
        /// The namespace.
        netns: String,
    },
    /// There is an instance already.
    #[error("inlet is already up in {netns}; see: inlet status")]
    AlreadyUp {
        /// The namespace.
        netns: String,
    },
    /// The state was written by a newer version.
    #[error("{path}: state format {found} is newer than {known}, which this inlet reads; use the newer inlet")]
    NewerState {
        /// The directory of the instance.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The link does not steer anything any more.
    #[error(
        "{path}: the link is detached from its namespace, so nothing is steered; remove what is left with: inlet down"
    )]
    Detached {
        /// The directory of the instance.
        path: PathBuf,
    },
    /// The link runs a program that no generation of this instance has.
    #[error(
        "{path}: the link runs program {program}, which inlet did not put there; see it with: bpftool prog show id {program}, remove the instance with: inlet down"
    )]
    ForeignProgram {
        /// The pin of the link.
        path: PathBuf,
        /// The number of the program.
        program: u32,
    },
    /// A commit was interrupted, and who asks may not see which generation is in force.
    #[error("{path}: a commit was interrupted; finish it as root with: inlet up")]
    Interrupted {
        /// The directory of the instance.
        path: PathBuf,
    },
    /// Capabilities are missing.
    #[error("{operation} needs {missing}; run it as root or with these capabilities")]
    Capability {
        /// What was tried.
        operation: &'static str,
        /// The names of what is missing, with commas.
        missing: String,
    },
    /// The kernel cannot do something.
    #[error("this kernel has no {what}, which came with Linux {since}; inlet needs Linux 6.1 or newer")]
    Kernel {
        /// What is missing.
        what: &'static str,
        /// The version that brought it.
        since: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace cannot be opened.
    #[error("network namespace {spec}: {cause}; give a path, a name that `ip netns` lists, or pid:N")]
    Netns {
        /// What was given.
        spec: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// There is no such group.
    #[error("unknown group {0:?}; see: getent group")]
    UnknownGroup(String),
    /// No service has this name.
    #[error("no service {0:?}; see: inlet services, or create it with: inlet service set {quoted}", quoted = quoted(.0))]
    UnknownService(String),
    /// No interface of the namespace has this name.
    #[error("no interface {name:?} in {netns}; see: ip link")]
    UnknownInterface {
        /// The name.
        name: String,
        /// The namespace.
        netns: String,
    },
    /// The name is an alternative name of an interface.
    #[error("{given:?} is another name of interface {name:?}; write {name}")]
    AlternativeName {
        /// The name given.
        given: String,
        /// The name that the kernel goes by.
        name: String,
    },
    /// No rule has exactly this match.
    #[error("no rule {0}; see: inlet rules")]
    NoRule(String),
    /// The process does not exist.
    #[error("process {0} does not exist")]
    NoProcess(u32),
    /// The sockets of the process may not be taken.
    #[error(
        "no permission over process {pid}: taking its sockets needs CAP_SYS_PTRACE or the same user; run it as root"
    )]
    ProcessDenied {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file does not hold the number of a process.
    #[error("{path}: {found:?} is not the number of a process")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// None of the sockets could be adopted.
    #[error("{of} has no socket for service {service:?}{}", listed(.refused))]
    NoSocket {
        /// The process or what else was asked.
        of: String,
        /// The service.
        service: String,
        /// The sockets that were seen, with the reason of each.
        refused: Vec<Refused>,
    },
    /// A socket serves another service already.
    #[error("socket {socket} serves {service:?} already; first: inlet unregister {}", quoted(service))]
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
    #[error("all {0} places for sockets are taken; unregister some, or start anew with: inlet up --max-sockets N")]
    TooManySockets(u32),
    /// The number of sockets is out of range.
    #[error("--max-sockets {given} is out of range; give 1 to {max}")]
    MaxSockets {
        /// What was given.
        given: u32,
        /// The most possible.
        max: u32,
    },
    /// systemd gave no sockets.
    #[error("no sockets from systemd: {0}; start it from a service unit that has a socket unit")]
    NoListenFds(String),
    /// The live program answers other than the specification.
    #[error(
        "the live program and the rules disagree about {packet}: the rules say {rules}, the program {program}; please report this"
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
    /// An image that cannot be read.
    #[error("{path}: {source}")]
    Source {
        /// The pin of the image.
        path: PathBuf,
        /// What is wrong.
        source: SourceError,
    },
    /// A text that is not a ruleset.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A bad name of a service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A bad name of an interface.
    #[error(transparent)]
    InterfaceName(#[from] InterfaceNameError),
    /// A change to the services that is not possible.
    #[error(transparent)]
    Service(#[from] ServiceError),
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

/// The first of the sockets seen; connections, of which a busy server has thousands, come last.
fn listed(refused: &[Refused]) -> String {
    const LISTED: usize = 20;
    if refused.is_empty() {
        return "; it has no sockets at all".to_owned();
    }
    let mut seen: Vec<&Refused> = refused.iter().collect();
    seen.sort_by_key(|it| it.reason == Refusal::Connected);
    let mut parts: Vec<String> = seen.iter().take(LISTED).map(ToString::to_string).collect();
    if seen.len() > LISTED {
        parts.push(format!("and {} more", seen.len() - LISTED));
    }
    format!("; seen: {}", parts.join("; "))
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") }
}

/// The last line of a log that says something, for a message of one line.
fn last_words(log: &str) -> String {
    let statistics =
        |line: &&str| line.starts_with("processed ") || line.starts_with("-- ") || line.contains("failed to load");
    match log.lines().rev().map(str::trim).filter(|line| !line.is_empty()).find(|line| !statistics(line)) {
        Some(line) => format!("; the verifier said: {line}"),
        None => String::new(),
    }
}

impl Error {
    /// For `map_err`: an error of the kernel with what was tried on which object.
    pub(crate) fn os<E: Cause>(operation: &'static str, object: impl ToString) -> impl FnOnce(E) -> Self {
        let object = object.to_string();
        move |cause| Self::Os { operation, object, cause: cause.into_io() }
    }

    /// The same for an object in a file system.
    pub(crate) fn at<E: Cause>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        Self::os(operation, path.display())
    }
}

/// What a failed call to the kernel gives, in the words of the libraries that make it.
pub(crate) trait Cause {
    fn into_io(self) -> io::Error;
}

impl Cause for io::Error {
    fn into_io(self) -> io::Error {
        self
    }
}

impl Cause for rustix::io::Errno {
    fn into_io(self) -> io::Error {
        self.into()
    }
}

impl Cause for libbpf_rs::Error {
    /// The error number of the kernel, where there is one in the chain; it can be matched and it reads well.
    fn into_io(self) -> io::Error {
        let mut link: Option<&(dyn std::error::Error + 'static)> = Some(&self);
        while let Some(error) = link {
            let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            if let Some(number) = number {
                return io::Error::from_raw_os_error(number);
            }
            link = error.source();
        }
        io::Error::other(self)
    }
}
