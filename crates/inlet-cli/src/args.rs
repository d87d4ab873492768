//! The arguments, their help texts, and from them the completions and the man pages. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inlet::core::{
    CgroupPath, InterfaceName, Listen, OnMissing, PortRange, Ports, Prefix, Protocol, Selector, ServiceName, UnitName,
    UserName,
};
use inlet::{Endpoint, UpOptions};

use crate::values::{AddrPort, PrefixFilter, ProtocolFilter};

/// The longest time to wait for confirmation: a week, in seconds.
const MAX_CONFIRM: u64 = 7 * 24 * 60 * 60;

/// Give a service a whole prefix, a range of ports or all of them
///
/// Inlet decides which socket receives a packet. A rule says which packets (protocol, local prefix, ports, optionally
/// source and interface) and what happens to them: a service receives them, the kernel's ordinary lookup decides (pass),
/// or they are refused. Of several rules that match, the one with the longer local prefix wins, then the narrower port
/// range, then the longer source prefix, then the one with an interface.
#[derive(Debug, Parser)]
#[command(name = "inlet", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Network namespace: a path, a name that `ip netns` lists, or pid:N [default: the own one]
    #[arg(long, global = true, help_heading = "Global options", value_name = "PATH|NAME|pid:N")]
    pub(crate) netns: Option<String>,

    /// The bpf filesystem that holds the state
    #[arg(long, global = true, help_heading = "Global options", value_name = "DIR", env = "INLET_BPFFS",
        hide_env_values = true, default_value = inlet::DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,

    /// Write JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start Inlet in the namespace, with no rules yet
    Up(Up),
    /// Stop Inlet in the namespace: its rules go, programs keep their sockets
    Down,
    /// Add rules, or replace the verdicts of those with the same match
    Bind(Bind),
    /// Remove rules
    Unbind(Match),
    /// Make, change or remove a service
    #[command(subcommand)]
    Service(Service),
    /// Give sockets of a running program to a service
    ///
    /// TCP listeners and unconnected UDP sockets are adopted; every other socket is named with the reason.
    Register(Register),
    /// Take sockets out of a service
    Unregister(Unregister),
    /// Look for the sockets that descriptions mean, and adopt them
    ///
    /// TCP listeners are adopted by the kernel when they begin to listen, and what exists when a service is described. This is for
    /// UDP sockets without `inlet watch`, and after a change of users or units. It fails when one cannot be adopted.
    Adopt {
        /// Only for this service
        service: Option<ServiceName>,
    },
    /// Adopt described UDP sockets as they are bound, until the instance goes or a signal comes
    Watch,
    /// Run a command whose sockets go to a service
    ///
    /// The command runs in a control group of its own. The service gets the sockets that its description means, or without a
    /// description those at --listen, or else all TCP listeners of the command, for as long as it runs. Signals are handed
    /// on; the exit status is the command's, or 128 and the number of the signal that ended it.
    Run(Run),
    /// Make the rules of a file the whole ruleset, or change nothing
    ///
    /// The file is TOML or JSON: by its extension, and without one of the two by its first character, which in JSON is a
    /// brace. All that is wrong with it and the files that it includes is told at once, each error with its place.
    Apply(Apply),
    /// Write a ruleset file that does what another tool was told
    #[command(subcommand)]
    Import(Import),
    /// Tell what `inlet apply` would change, and which packets get another answer
    ///
    /// Nothing is changed. Status 0: no change, 3: there are changes, 1: failed.
    Plan(Plan),
    /// Let the ruleset stay that was applied with --confirm
    Confirm,
    /// Put the former ruleset in force; once more goes forward again
    ///
    /// A ruleset that waits for confirmation makes place for the one before it.
    Rollback(Rollback),
    /// Wait for confirmation in the background; `inlet apply --confirm` starts it
    #[command(hide = true)]
    AwaitConfirmation,
    /// Write the ruleset in force as `inlet apply` reads it, in JSON unless told otherwise
    Export(Export),
    /// Show the instance and its services with their sockets and counters
    Status,
    /// List rules in match order: the first one that matches a packet decides
    Rules(Rules),
    /// List services
    Services,
    /// Look whether all is well: the host, the rules, the services and the sockets
    ///
    /// Each finding says what is amiss, why it matters and what mends it. Status 0 when there is no error among them,
    /// else 1. Nothing is changed. Without an instance or without root what can be looked at is, and the rest is named.
    Check(Check),
    /// List what every socket and every service receives once the rules are in force
    ///
    /// All TCP listeners and unconnected UDP sockets of the namespace, with the addresses and ports that they receive on:
    /// what they are bound to, less what rules take, and what rules give to their service.
    Listeners,
    /// Tell the story of a packet: is its address local, which rule decides and why, which socket receives it
    ///
    /// The routes, the rules in force and the kernel's list of sockets are asked, and the live program where the kernel
    /// can run it for a made-up packet. When it disagrees with the rules, that is an error. Counters stay as they are.
    Explain(Explain),
    /// Write completions for a shell to standard output
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory, made when it is not there
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// A group whose members may list rules and read counters
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,

    /// How many sockets fit, over all services
    #[arg(long, value_name = "N", default_value_t = UpOptions::default().max_sockets,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(UpOptions::MAX_SOCKETS)))]
    pub(crate) max_sockets: u32,
}

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

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// The file; - reads standard input
    pub(crate) file: PathBuf,

    /// Tell all changes and all traffic, however much it is
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Also when that takes traffic from SSH, or from a listener that serves this session
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Go back to the former ruleset after so many seconds, unless `inlet confirm` is run before
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_CONFIRM))]
    pub(crate) confirm: Option<u64>,

    /// Also when that takes traffic from SSH, or from a listener that serves this session
    #[arg(long)]
    pub(crate) force: bool,

    /// The file; - reads standard input
    pub(crate) file: PathBuf,

    /// Units, control groups and users that describe services need not be there yet
    #[arg(long)]
    pub(crate) later: bool,

    /// Keep local routes for the prefixes of rules, as with routes = "manage" in the file
    #[arg(long)]
    pub(crate) routes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Translate the bindings of tubular
    ///
    /// The file is the one that `tubectl load-bindings` takes. Labels become services; give them their sockets with
    /// `inlet register`, or say in the file which they are. Status 3: not all could be translated.
    Tubular {
        /// The file; - reads standard input
        file: PathBuf,
    },
    /// Translate TPROXY rules of iptables or nftables
    ///
    /// Reads what `iptables-save` and `ip6tables-save`, or `nft -j list ruleset`, write. Each address and port that TPROXY
    /// sends packets to becomes a service described by it. What cannot be said in a ruleset is listed on standard error and
    /// in comments, with the reason; the status is 3 then.
    #[command(after_help = "Examples:
  (iptables-save; ip6tables-save; ipset save) | inlet import tproxy >inlet.toml
  nft -j list ruleset | inlet import tproxy >inlet.toml")]
    Tproxy {
        /// The file; - reads standard input
        #[arg(default_value = "-", hide_default_value = true)]
        file: PathBuf,

        /// What `ipset save` wrote, when it is not part of the first file
        #[arg(long, value_name = "FILE")]
        ipset: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write TOML
    #[arg(long, conflicts_with = "json")]
    pub(crate) toml: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rules {
    /// Rules for this protocol: tcp, udp or any
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) protocol: ProtocolFilter,

    /// Rules whose local prefix covers this one or is inside it; any for all
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) prefix: PrefixFilter,

    /// Rules for this port, or for a port of this range
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) port: PortRange,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Check the rules of this file in place of those in force; - reads standard input
    pub(crate) file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The protocol: tcp or udp
    pub(crate) protocol: Protocol,

    /// Where the packet goes to: 192.0.2.7:80 or `[2001:db8::7]:80`
    #[arg(value_name = "DST:PORT")]
    pub(crate) to: AddrPort,

    /// Where the packet comes from [default: the unspecified address (0.0.0.0 or ::) and port 0]
    #[arg(long, value_name = "SRC:PORT")]
    pub(crate) from: Option<AddrPort>,

    /// The interface on which the packet comes in [default: none in particular]
    #[arg(long, value_name = "NAME")]
    pub(crate) iface: Option<InterfaceName>,

    /// Explain by the rules of this file, as if it had been applied; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// A shell that completions can be written for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn definitions_hold_together() {
        super::Cli::command().debug_assert();
    }
}
