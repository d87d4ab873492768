//! The arguments of commands that are about services and their sockets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use inlet::Endpoint;
use inlet::core::{CgroupPath, Listen, OnMissing, ServiceName, UnitName, UserName};

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Make a service, or change which sockets it has and what happens while it has none
    ///
    /// With --listen the service finds its sockets by itself: TCP listeners inside listen(), what exists at once, UDP sockets with
    /// `inlet watch` or `inlet adopt`. What a description says takes the place of the former one as a whole.
    Set(Box<SetService>),
    /// Remove a service that no rule names, and let its sockets go
    Rm {
        /// Its name
        service: ServiceName,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SetService {
    /// Its name
    pub(crate) service: ServiceName,

    /// Without a live socket: refuse the packets, or pass them to the kernel's ordinary lookup [new service: refuse]
    #[arg(long, value_name = "refuse|pass")]
    pub(crate) on_missing: Option<OnMissing>,

    /// It has the sockets at this address, such as tcp:127.0.0.1:8080, udp:[::1]:53 or, at any address, tcp:*:80; may be given again
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Listen>,

    /// Only sockets made in the control group of this systemd unit
    #[arg(long, requires = "listen", conflicts_with = "cgroup", value_name = "NAME.service")]
    pub(crate) unit: Option<UnitName>,

    /// Only sockets made in this control group or below it; the path begins at the cgroup v2 root
    #[arg(long, requires = "listen", value_name = "PATH")]
    pub(crate) cgroup: Option<CgroupPath>,

    /// Only sockets of this user, a name or a number
    #[arg(long, requires = "listen", value_name = "USER")]
    pub(crate) uid: Option<UserName>,

    /// The unit, control group and user need not be there yet
    #[arg(long, requires = "listen")]
    pub(crate) later: bool,

    /// It has no description any more: sockets are registered by hand
    #[arg(long, conflicts_with = "listen")]
    pub(crate) by_hand: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The service that gets the sockets
    pub(crate) service: ServiceName,

    /// Only sockets at this address, such as tcp:127.0.0.1:8080 or udp:*:53; may be given again
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Listen>,

    /// The command with its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    /// The service that gets the sockets
    pub(crate) service: ServiceName,

    #[command(flatten)]
    pub(crate) owner: SocketOwner,

    /// Only sockets with this protocol and local address, such as tcp:127.0.0.1:8080; may be given again
    #[arg(long, value_name = "PROTO:ADDR:PORT")]
    pub(crate) listen: Vec<Endpoint>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct SocketOwner {
    /// Sockets of the process with this number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,

    /// Sockets of the process whose number this file holds
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Sockets that systemd passed to this command (LISTEN_FDS)
    #[arg(long)]
    pub(crate) systemd: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Unregister {
    /// The service
    pub(crate) service: ServiceName,

    /// Only sockets that this process has open
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}
