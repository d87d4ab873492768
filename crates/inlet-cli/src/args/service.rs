//! The arguments of commands that are about services and their sockets.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use inlet::Endpoint;
use inlet::rules::{Answers, CgroupPath, Listen, OnMissing, ServiceName, Spread, Sticky, UnitName, UserName};

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Add a service, or change its sockets and its policy
    ///
    /// With --listen the service describes its sockets and finds them by itself. Sockets that exist are adopted at
    /// once. Later the kernel adopts TCP listeners inside listen(), and `inlet watch` or `inlet adopt` adopts UDP
    /// sockets. A new description replaces the previous one as a whole.
    Set(Box<SetService>),
    /// Remove a service that no rule names
    ///
    /// Programs keep their sockets.
    Rm {
        /// The name of the service
        service: ServiceName,
    },
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("sockets").args(["listen", "own_binds"]).multiple(true)))]
pub(crate) struct SetService {
    /// The name of the service
    pub(crate) service: ServiceName,

    /// Without a live socket, refuse packets or let the kernel decide [new services: refuse]
    #[arg(long, value_name = "refuse|pass")]
    pub(crate) on_missing: Option<OnMissing>,

    /// Who chooses among its sockets: Inlet, or the SO_REUSEPORT group, for programs with a selector of their own
    #[arg(long, value_name = "inlet|group")]
    pub(crate) spread: Option<Spread>,

    /// UDP answers leave from where the client asked, or from where the socket is bound [default: asked]
    #[arg(long, value_name = "asked|bound")]
    pub(crate) answers: Option<Answers>,

    /// A UDP flow stays on its socket until it was silent for so many seconds; 0: not at all [new services: 0]
    ///
    /// It stays also when sockets come and go. Datagrams in both directions count. See `inlet drain`.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) sticky: Option<Sticky>,

    /// The sockets at this address: tcp:127.0.0.1:8080, `udp:[::1]:53`, or tcp:*:80 for any; with %eth0 behind the
    /// address only those that are bound to that interface; may be repeated
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Listen>,

    /// Only sockets that this systemd unit made
    #[arg(long, requires = "sockets", conflicts_with = "cgroup", value_name = "NAME.service")]
    pub(crate) unit: Option<UnitName>,

    /// Only sockets made in this control group or below it; the path starts at the cgroup v2 root
    #[arg(long, requires = "sockets", value_name = "PATH")]
    pub(crate) cgroup: Option<CgroupPath>,

    /// Only sockets of this user, a name or a number
    #[arg(long, alias = "uid", requires = "sockets", value_name = "USER")]
    pub(crate) user: Option<UserName>,

    /// Sockets of any user are meant: nobody is warned that any local user could open one
    #[arg(long, requires = "listen", conflicts_with_all = ["unit", "cgroup", "user"])]
    pub(crate) anyone: bool,

    /// Programs of the unit, control group or user get plain TCP when they ask for multipath TCP
    ///
    /// The kernel does not steer multipath TCP, the default of Go's servers. With this option socket() refuses it to
    /// those programs. Go then takes plain TCP by itself. A program that insists on multipath TCP fails. It counts for
    /// sockets that are made from now on: start the program again. `--no-mptcp=false` ends it.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_mptcp: Option<bool>,

    /// Programs of the unit or control group may bind what others bind too, and receive by rules alone
    ///
    /// A bind() at an address of --listen, or without --listen any, gets a port of its own, from those of `inlet up
    /// --own-ports`. getsockname() gives back what the program asked for. Nothing but the rules of this service leads to
    /// the socket. It counts from the next bind() on: start the program again. `--own-binds=false` ends it.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) own_binds: Option<bool>,

    /// The unit, control group and user may be missing yet
    #[arg(long, requires = "sockets")]
    pub(crate) later: bool,

    /// Remove the description: sockets are registered by hand
    #[arg(long, conflicts_with_all = ["listen", "unit", "cgroup", "user"])]
    pub(crate) by_hand: bool,

    /// Show what it would change, as `inlet plan` does, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The service that gets the sockets, added if it does not exist
    pub(crate) service: ServiceName,

    /// Only sockets at this address: tcp:127.0.0.1:8080 or udp:*:53; may be repeated
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Listen>,

    /// The command may bind what others bind too, and receives by rules alone
    #[arg(long)]
    pub(crate) own_binds: bool,

    /// The command with its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
#[command(override_usage = "inlet register [OPTIONS] <SERVICE> --pid <PID>
       inlet register [OPTIONS] <SERVICE> --pidfile <FILE>
       inlet register [OPTIONS] <SERVICE> --systemd")]
pub(crate) struct Register {
    /// The service that gets the sockets
    pub(crate) service: ServiceName,

    #[command(flatten)]
    pub(crate) owner: SocketOwner,

    /// Only sockets with this protocol and local address: tcp:127.0.0.1:8080; may be repeated
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Endpoint>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct SocketOwner {
    /// The sockets of the process with this number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,

    /// The sockets of the process whose number is in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,

    /// The sockets that systemd passed to this command (LISTEN_FDS)
    #[arg(long)]
    pub(crate) systemd: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Unregister {
    /// The name of the service
    pub(crate) service: ServiceName,

    /// Only sockets that this process has open
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// The name of the service
    pub(crate) service: ServiceName,

    /// The process whose sockets get nothing new
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: u32,

    /// For how long to wait until nothing is left; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Grantd {
    /// Listen at this path, in the place of the socket that systemd passes
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// End when nobody has asked for so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) idle: Option<u64>,
}
