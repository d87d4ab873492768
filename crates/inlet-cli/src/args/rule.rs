//! The arguments of commands that change rules.

use clap::Args;
use inlet::rules::{InterfaceName, Listen, Mark, Ports, Prefix, Protocol, Selector};

/// Without a service each word stands one place further to the left; [`crate::commands`] moves them.
#[derive(Args, Debug)]
#[command(override_usage = "inlet bind [OPTIONS] <SERVICE> <tcp|udp> <PREFIX> <PORTS>
       inlet bind [OPTIONS] --to <PROTO:ADDR:PORT> <tcp|udp> <PREFIX> <PORTS>
       inlet bind [OPTIONS] --pass|--refuse <tcp|udp> <PREFIX> <PORTS>")]
pub(crate) struct Bind {
    /// The service that receives the packets, added if it does not exist; not with --to, --pass or --refuse
    pub(crate) service: String,

    /// The protocol: tcp or udp
    pub(crate) protocol: String,

    /// The local prefix: 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7
    pub(crate) prefix: String,

    /// The ports: 80, 8000-8999, 80,443 or any
    pub(crate) ports: Option<String>,

    /// The sockets at this address receive the packets, by a service that is named after it and finds them by itself
    #[arg(long, value_name = "PROTO:ADDR:PORT", conflicts_with_all = ["pass", "refuse"])]
    pub(crate) to: Option<Listen>,

    /// The kernel decides who receives the packets, as without Inlet
    #[arg(long, conflicts_with = "refuse")]
    pub(crate) pass: bool,

    /// Refuse the packets, with a TCP reset or ICMP port unreachable
    #[arg(long)]
    pub(crate) refuse: bool,

    /// Do it even if SSH or the listener of this session loses packets
    #[arg(long)]
    pub(crate) force: bool,

    /// Show what it would change, as `inlet plan` does, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

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

    /// Only packets that the firewall gave this mark; a mask says which bits count: 0x1/0xff
    #[arg(long, value_name = "VALUE[/MASK]")]
    pub(crate) mark: Option<Mark>,
}

#[derive(Args, Debug)]
pub(crate) struct Match {
    /// The protocol: tcp or udp
    protocol: Protocol,

    /// The local prefix: 192.0.2.0/24, 2001:db8::/64 or 192.0.2.7
    prefix: Prefix,

    /// The ports: 80, 8000-8999, 80,443 or any
    ports: Ports,

    /// Do it even if SSH or the listener of this session loses packets
    #[arg(long)]
    pub(crate) force: bool,

    /// Show what it would change, as `inlet plan` does, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    conditions: Conditions,
}

impl Match {
    pub(crate) fn selector(&self) -> Selector {
        let Conditions { from, iface, mark } = self.conditions.clone();
        let ports = self.ports.clone();
        Selector { protocol: self.protocol, local: self.prefix, ports, source: from, iface, mark }
    }
}
