//! The arguments of commands that change rules.

use clap::Args;
use inlet::core::{InterfaceName, Listen, Ports, Prefix, Protocol, Selector};

/// Without a service each word stands one place further to the left; [`crate::commands`] moves them.
#[derive(Args, Debug)]
#[command(override_usage = "inlet bind [OPTIONS] <SERVICE> <tcp|udp> <PREFIX> <PORTS>
       inlet bind [OPTIONS] --to <PROTO:ADDR:PORT> <tcp|udp> <PREFIX> <PORTS>
       inlet bind [OPTIONS] --pass|--refuse <tcp|udp> <PREFIX> <PORTS>")]
#[command(after_help = "Examples:
  inlet bind web tcp 192.0.2.0/24 80,443
  inlet bind proxy udp 2001:db8::/64 any --from 203.0.113.0/24
  inlet bind --to tcp:127.0.0.1:8080 tcp 192.0.2.0/24 80
  inlet bind --pass tcp 192.0.2.0/24 22")]
pub(crate) struct Bind {
    /// The service that receives the packets, made when there is none of this name; left out with --to, --pass and --refuse
    pub(crate) service: String,

    /// The protocol: tcp or udp
    pub(crate) protocol: String,

    /// The local prefix: 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7
    pub(crate) prefix: String,

    /// The ports: 80, 8000-8999, 80,443 or any
    pub(crate) ports: Option<String>,

    /// The sockets at this address receive the packets: a service of this name is made for them, which finds them by itself
    #[arg(long, value_name = "PROTO:ADDR:PORT", conflicts_with_all = ["pass", "refuse"])]
    pub(crate) to: Option<Listen>,

    /// Leave the packets to the kernel's ordinary lookup, as if Inlet were not there
    #[arg(long, conflicts_with = "refuse")]
    pub(crate) pass: bool,

    /// Refuse the packets: TCP reset, ICMP port unreachable
    #[arg(long)]
    pub(crate) refuse: bool,

    /// Also when that takes traffic from SSH, or from a listener that serves this session
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Conditions {
    /// Only packets from this source prefix
    #[arg(long, value_name = "CIDR")]
    pub(crate) from: Option<Prefix>,

    /// Only packets that come in on this interface
    #[arg(long, value_name = "NAME")]
    pub(crate) iface: Option<InterfaceName>,
}

#[derive(Args, Debug)]
pub(crate) struct Match {
    /// The protocol: tcp or udp
    protocol: Protocol,

    /// The local prefix: 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7
    prefix: Prefix,

    /// The ports: 80, 8000-8999, 80,443 or any
    ports: Ports,

    /// Also when that takes traffic from SSH, or from a listener that serves this session
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    conditions: Conditions,
}

impl Match {
    pub(crate) fn selector(&self) -> Selector {
        let Conditions { from, iface } = self.conditions.clone();
        Selector { protocol: self.protocol, local: self.prefix, ports: self.ports.clone(), source: from, iface }
    }
}
