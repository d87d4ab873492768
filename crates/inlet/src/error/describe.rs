//! Why sockets cannot be found by a description.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use inlet_core::{Confine, Endpoint, Listen, PortRange, Protocol};

use super::texts::{by_whom, quoted, wait_for};

/// Why sockets cannot be found by a description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// There is no hierarchy of control groups.
    #[error("no cgroup v2 hierarchy is mounted, which finding described sockets and answering as asked need")]
    NoCgroups,
    /// Only a part of the hierarchy is to be seen.
    #[error(
        "this cgroup namespace shows only a part of the control groups, so no unit or cgroup can be described in it"
    )]
    CgroupNamespace,
    /// No control group has this path.
    #[error("no control group {0}")]
    NoCgroup(String),
    /// No unit of this name has a control group.
    #[error("no running unit {0}")]
    NoUnit(String),
    /// There is no such user.
    #[error("unknown user {0:?}")]
    UnknownUser(String),
    /// Two services describe the same sockets by different names of one user or control group.
    #[error("two services want sockets at {listen} of the same user and control group")]
    SameSockets {
        /// The address.
        listen: Listen,
    },
    /// More services describe sockets of one address than fit.
    #[error("more than {max} services want sockets at {listen}")]
    TooManyServices {
        /// The address.
        listen: Listen,
        /// How many fit.
        max: usize,
    },
    /// The sockets of a rule are of another protocol than its packets.
    #[error("sockets at {listen} receive no {protocol} packets")]
    OtherProtocol {
        /// The address of the sockets.
        listen: Listen,
        /// The protocol of the rule.
        protocol: Protocol,
    },
    /// Another watcher is running.
    #[error("{path} is watched already{}", by_whom(holders))]
    Watched {
        /// The directory of the instance.
        path: PathBuf,
        /// The processes that watch, as far as we may see them.
        holders: Vec<u32>,
    },
    /// The service has a description, and sockets were described anew.
    #[error("service {0:?} is described already")]
    Described(String),
    /// What says more about a description is asked of a service that has none.
    #[error("service {service:?} has no description, whose programs would {}", if *option == "--no-mptcp" { "get plain TCP" } else { "have own binds" })]
    NotDescribed {
        /// The service.
        service: String,
        /// What was asked, as the option of the command.
        option: &'static str,
    },
    /// Sockets that a service is to have are those of a program outside its control group.
    #[error(
        "{endpoint} is a socket of a program outside {confine}, whose programs alone service {service:?} has, with own binds"
    )]
    Outside {
        /// The service.
        service: String,
        /// Where its programs are.
        confine: Confine,
        /// The socket.
        endpoint: Endpoint,
    },
    /// A socket is at a port that own binds need.
    #[error("own binds have the ports {range}, and a socket is bound to {endpoint}")]
    OwnPortTaken {
        /// The ports.
        range: PortRange,
        /// The socket.
        endpoint: Endpoint,
    },
    /// The kernel gives ports that own binds need to clients.
    #[error("own binds have the ports {range}, and the kernel gives port {port} to clients by itself")]
    OwnPortsAutomatic {
        /// The ports.
        range: PortRange,
        /// One of them.
        port: u16,
    },
    /// Another `inlet run` serves the service.
    #[error("another inlet run serves {0}")]
    Running(String),
    /// The root of the control groups has as many programs of this kind as the kernel has room for.
    #[error("no more programs fit at the root of the control groups, {}: {cause}", root.display())]
    CgroupFull {
        /// Where the hierarchy is mounted.
        root: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A command cannot be started.
    #[error("cannot run {command}: {cause}")]
    Spawn {
        /// The command.
        command: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl DescribeError {
    pub(super) fn remedy(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::NoCgroups => "mount -t cgroup2 none /sys/fs/cgroup".into(),
            Self::CgroupNamespace => "run inlet in the cgroup namespace of the host: nsenter -t 1 -C inlet".into(),
            Self::NoCgroup(_) => "list them with: systemd-cgls; if it comes later, give --later".into(),
            Self::NoUnit(unit) => {
                format!("look at it with: systemctl status {}; if it starts later, give --later", quoted(unit)).into()
            }
            Self::UnknownUser(_) => "list the users with: getent passwd; if it comes later, give --later".into(),
            Self::SameSockets { .. } => "let them differ in address, port, user or control group".into(),
            Self::TooManyServices { .. } => "let them differ in address or port".into(),
            Self::OtherProtocol { listen, protocol } => {
                let addr = listen.to_string().split_once(':').map_or_else(String::new, |(_, addr)| addr.to_owned());
                format!(
                    "write --to {}, or {} in place of {protocol}",
                    quoted(&format!("{protocol}:{addr}")),
                    listen.protocol()
                )
                .into()
            }
            Self::Watched { path, holders } => wait_for(path, holders),
            Self::Described(service) => {
                format!("leave --listen and --own-binds out, or change it with: inlet service set {}", quoted(service))
                    .into()
            }
            Self::Outside { .. } => "start the program in it, and leave the sockets to the description".into(),
            Self::OwnPortTaken { .. } => {
                "end that program, or choose other ports: inlet down, then inlet up --own-ports FIRST-LAST".into()
            }
            Self::OwnPortsAutomatic { range, .. } => {
                format!("sysctl -w net.ipv4.ip_local_reserved_ports={range}, with the ports that are there already")
                    .into()
            }
            Self::NotDescribed { service, option } => format!(
                "describe it too: inlet service set {} {option} --listen PROTO:ADDR:PORT --unit NAME.service",
                quoted(service)
            )
            .into(),
            Self::Running(_) => "end it first; for several at a time describe the service: inlet service set".into(),
            Self::CgroupFull { root, .. } => {
                format!("detach some; list them with: bpftool cgroup show {}", quoted(&root.display().to_string()))
                    .into()
            }
            Self::Spawn { .. } => return None,
        })
    }
}
