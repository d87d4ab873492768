//! Everything that can go wrong, to match on and to read.
//!
//! A message tells the object and the cause in one line, in lower case, then the next step when there is one. The cause
//! that the kernel gave is in the chain of sources.

mod cause;
mod texts;

use std::io;
use std::path::PathBuf;

use inlet_core::config::Diagnostics;
use inlet_core::image::{ImageError, SourceError};
use inlet_core::{BuildError, DescriptionError, InterfaceNameError, Listen, NameError, Prefix, ServiceError};

pub(crate) use self::cause::Cause;
pub(crate) use self::texts::quoted;
use self::texts::{choices, in_use, last_words, listed, several, trusted, with_remedy};
use crate::socket::{Endpoint, Refused};

/// The result of what can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Unless the message says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is no bpf filesystem.
    #[error("no bpf filesystem at {0}; mount one with: mount -t bpf -o mode=0755 bpf {0}")]
    NoBpfFs(PathBuf),
    /// The directory of all instances is not only ours to change.
    #[error("{path} belongs to user {owner} and has mode {mode:04o}, so that others could put something else in the place of an instance; {}", trusted(path, *owner))]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Others kept the instance locked for longer than Inlet waits.
    #[error("{path} has been in use for {seconds} seconds{}", in_use(path, holders))]
    Busy {
        /// The directory that is locked.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The processes that have it locked, as far as we may see them.
        holders: Vec<u32>,
    },
    /// A commit was made, and then something failed that had to be done after it.
    #[error(
        "the new ruleset is in force (generation {generation}), but what it replaced is not cleared away: {cause}; any command that changes the instance finishes it"
    )]
    Unfinished {
        /// The generation in force.
        generation: u64,
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// Another ruleset waits to be confirmed.
    #[error(
        "the ruleset in force waits for confirmation, and goes in {seconds} seconds without it; first: inlet confirm, or inlet rollback"
    )]
    Unconfirmed {
        /// How much time is left.
        seconds: u64,
    },
    /// Nothing is to be confirmed.
    #[error("nothing waits for confirmation; see: inlet status")]
    NothingToConfirm,
    /// The time to confirm was over, and the ruleset before is in force again.
    #[error(
        "too late: generation {unconfirmed} was not confirmed in time, and the ruleset before it is in force again (generation {generation})"
    )]
    TooLate {
        /// What was not confirmed.
        unconfirmed: u64,
        /// What is in force.
        generation: u64,
    },
    /// The time to confirm is over, and the ruleset before could not be put in force.
    #[error(
        "generation {generation} was not confirmed in time, and going back to the ruleset before it failed: {cause}"
    )]
    GoBack {
        /// What was not confirmed.
        generation: u64,
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// A commit was made, and then sockets that exist could not be looked through.
    #[error(
        "the new ruleset is in force, but described sockets that exist were not looked for: {cause}; do it with: inlet adopt"
    )]
    NotAdopted {
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// The change would lock out whoever makes it.
    #[error("{rule} would take {packet} from {listener}, which {why}; {mend}; or do it even so with --force")]
    LockOut {
        /// Who would lose packets.
        listener: String,
        /// Why it must not.
        why: &'static str,
        /// Where such a packet goes to.
        packet: String,
        /// The rule that would take it, or that would go.
        rule: String,
        /// What keeps it.
        mend: String,
    },
    /// The process that was to wait for confirmation ended before it did.
    #[error("the process that waits for confirmation ended at once, so the former ruleset is in force again")]
    NobodyWaits,
    /// The instance has had one ruleset only.
    #[error("there is no former ruleset to go back to: nothing was changed since inlet up")]
    NoPrevious,
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
    /// The state was written by an older version.
    #[error(
        "{path}: state format {found} is older than {known}; save its rules with: OLD-INLET export, then: inlet down, inlet up, inlet apply FILE"
    )]
    OlderState {
        /// The directory of the instance.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
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
    #[error(
        "{of} has sockets at several ports of a protocol; say which are for {service:?} with some of:{}",
        choices(.endpoints)
    )]
    SeveralPorts {
        /// The process.
        of: String,
        /// The service.
        service: String,
        /// Where its sockets are.
        endpoints: Vec<Endpoint>,
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
    #[error(
        "all places are taken, of which {0} sockets can have one for each family; unregister some, or start anew with: inlet up --max-sockets N"
    )]
    TooManySockets(u32),
    /// The number of sockets is out of range.
    #[error("--max-sockets {given} is out of range; give 1 to {max}")]
    MaxSockets {
        /// What was given.
        given: u32,
        /// The most possible.
        max: u32,
    },
    /// A local route would take the addresses of others.
    #[error(
        "a local route for {prefix} would cut the host off from {route}; give the rules narrower prefixes, or if it is meant, make it local yourself: ip route add local {prefix} dev lo"
    )]
    RouteCutsOff {
        /// The prefix that the rules are for.
        prefix: Prefix,
        /// The route that would be of no use any more.
        route: String,
    },
    /// The rules need more local routes than Inlet makes.
    #[error(
        "the rules are for {count} prefixes that are not local, and inlet makes {max} routes at most; make wider prefixes local yourself (ip route add local PREFIX dev lo), or leave the routes alone"
    )]
    TooManyRoutes {
        /// How many they need.
        count: usize,
        /// How many are made.
        max: usize,
    },
    /// Local routes lead through the loopback interface, and that is down.
    #[error("lo is down in {netns}, and local routes lead through it; first: ip link set lo up")]
    LoopbackDown {
        /// The namespace.
        netns: String,
    },
    /// There is no hierarchy of control groups.
    #[error(
        "no cgroup v2 hierarchy is mounted, which finding described sockets needs; mount one with: mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NoCgroups,
    /// Only a part of the hierarchy is to be seen.
    #[error(
        "this cgroup namespace shows a part of the control groups only, so that a unit or cgroup cannot be described in it; run inlet in the host's (nsenter -t 1 -C)"
    )]
    CgroupNamespace,
    /// No control group has this path.
    #[error("no control group {0}; see: systemd-cgls, or give --later when it will be made")]
    NoCgroup(String),
    /// No unit of this name has a control group.
    #[error("no running unit {0}; see: systemctl status {0}, or give --later when it will be started")]
    NoUnit(String),
    /// There is no such user.
    #[error("unknown user {0:?}; see: getent passwd, or give --later when it will be made")]
    UnknownUser(String),
    /// Two services want the same sockets by different names of one user or control group.
    #[error("two services want sockets at {listen} of the same user and control group; let them differ")]
    SameWant {
        /// The address.
        listen: Listen,
    },
    /// More services want sockets of one address than fit.
    #[error("more than {max} services want sockets at {listen}; let them differ in address or port")]
    TooManyWants {
        /// The address.
        listen: Listen,
        /// How many fit.
        max: usize,
    },
    /// Another watcher is running.
    #[error("{path} is watched already{}", in_use(path, holders))]
    Watched {
        /// The directory of the instance.
        path: PathBuf,
        /// The processes that watch, as far as we may see them.
        holders: Vec<u32>,
    },
    /// The service has a description, and sockets were described anew.
    #[error("service {0:?} is described already; leave --listen out, or change it with: inlet service set {quoted}", quoted = quoted(.0))]
    Described(String),
    /// A command cannot be started.
    #[error("cannot run {command}: {cause}")]
    Spawn {
        /// The command.
        command: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A description that is none.
    #[error("{}", with_remedy(.0))]
    Description(#[from] DescriptionError),
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
    #[error("{}", with_remedy(.0))]
    Build(#[from] BuildError),
    /// A ruleset that does not fit in an image.
    #[error("{}", with_remedy(.0))]
    Image(#[from] ImageError),
    /// An image that cannot be read.
    #[error("{path}: {}", with_remedy(source))]
    Source {
        /// The pin of the image.
        path: PathBuf,
        /// What is wrong.
        source: SourceError,
    },
    /// All that is wrong with a ruleset file.
    #[error(transparent)]
    Config(#[from] Diagnostics),
    /// A bad name of a service.
    #[error("{}", with_remedy(.0))]
    Name(#[from] NameError),
    /// A bad name of an interface.
    #[error("{}", with_remedy(.0))]
    InterfaceName(#[from] InterfaceNameError),
    /// A change to the services that is not possible.
    #[error("{}", with_remedy(.0))]
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
