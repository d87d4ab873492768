//! The arguments, their help texts, and from them the completions and the man pages. Nothing is done here.

mod question;
mod rule;
mod ruleset;
mod service;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inlet::UpOptions;
use inlet::rules::{PortRange, ServiceName};

pub(crate) use self::question::{Check, Explain, Rules};
pub(crate) use self::rule::{Bind, Match};
pub(crate) use self::ruleset::{Apply, Export, Import, Plan, Rollback};
pub(crate) use self::service::{Drain, Grantd, Register, Run, Service, SetService, Unregister};

/// Decide which socket receives a packet
///
/// A rule says which packets it is about: their protocol, local prefix and ports, and optionally their source,
/// interface and mark. It also says what happens to them. A service receives them, the kernel decides as without Inlet
/// (pass), or they are refused. Of all rules that match a packet, the one with the longer local prefix decides. If
/// these are equally long, the narrower port range decides, then the longer source prefix, then a rule with an
/// interface before one without, then the mark of which more bits count.
#[derive(Debug, Parser)]
#[command(name = "inlet", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Network namespace: a path, a name from `ip netns`, or pid:N [default: the current one]
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

/// A new command also needs an entry in `manual/table.rs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start Inlet in a network namespace, without rules
    ///
    /// Where it is up already, it stays as it is. What an interrupted command left is finished, and what an earlier version
    /// made is taken over, while packets go on being steered.
    Up(Up),
    /// Stop Inlet in a network namespace
    ///
    /// All rules and services are removed. Programs keep their sockets, and the kernel decides again who receives
    /// packets.
    Down {
        /// In every network namespace that can be found
        #[arg(long, conflicts_with = "netns")]
        all: bool,
    },
    /// List the network namespaces where Inlet is up
    ///
    /// It finds namespaces by the names that `ip netns` gives and by processes. One that has neither is shown by its
    /// number.
    List {
        /// Also those of namespaces that have ended, and what interrupted commands left
        #[arg(long)]
        all: bool,
    },
    /// Remove what ended namespaces and interrupted commands left
    ///
    /// An instance in a namespace that is there is not touched. What a killed `inlet up` or `inlet down` left is removed, and a
    /// takeover from an older version is finished. A command that runs is waited for.
    Gc,
    /// Add rules, or change what rules with the same match do
    ///
    /// Each port or range of PORTS becomes one rule. A rule with the same protocol, prefix, ports, source, interface and
    /// mark is replaced. The packets must be for an address that is local to the host: see `ip route add local`.
    Bind(Bind),
    /// Remove rules
    ///
    /// Each is named by its match: protocol, prefix, ports and, where the rule has them, --from, --iface and
    /// --mark.
    Unbind(Match),
    /// Add, change or remove a service
    #[command(subcommand)]
    Service(Service),
    /// Give sockets of a running program to a service
    ///
    /// TCP listeners and unconnected UDP sockets are adopted. Every other socket is listed with the reason why it is
    /// not. Do this again after each restart of the program, or describe the sockets once with `inlet service set
    /// --listen`.
    Register(Register),
    /// Take sockets out of a service
    ///
    /// The program keeps its sockets and connections. It only gets no new packets from the service.
    Unregister(Unregister),
    /// Let a process finish: its sockets get nothing new of a service
    ///
    /// New connections and flows go to the other sockets of the service, which must be there. Flows over UDP of a sticky
    /// service stay where they are, and connections anyway. It waits until no flow is left and all connections are
    /// accepted, and shows how many flows are left and how old the youngest is. Nothing has to run for the sockets to stay
    /// drained. `inlet register SERVICE --pid PID` takes them back.
    Drain(Drain),
    /// Find and adopt the sockets that services describe
    ///
    /// The kernel adopts a described TCP listener by itself, when the program calls listen(). This command finds UDP
    /// sockets when `inlet watch` does not run, and sockets that match after a user or unit has changed.
    Adopt {
        /// Only for this service
        service: Option<ServiceName>,
    },
    /// Adopt described UDP sockets as programs bind them
    ///
    /// It runs until a signal ends it or the instance is gone. It holds no state: stop and start it at any time.
    Watch,
    /// Make granted changes for callers without the rights
    ///
    /// The ruleset in force says who may do what (`grants` in its file). `register`, `bind` and `unbind` ask it by
    /// themselves when they lack the rights. Each decision is one line on standard error. systemd starts it when
    /// somebody asks (`contrib/systemd/inlet-grantd.socket`). It holds no state: stop it at any time.
    Grantd(Grantd),
    /// Run a command whose sockets serve a service
    ///
    /// The command runs in a control group of its own. While it runs, the service has the sockets of that group that it
    /// describes or, without a description, those at --listen. Without either it has all TCP listeners of the command.
    /// The service is added if it does not exist. Signals are passed on to the command.
    Run(Run),
    /// Show what a file would change, and for which packets
    ///
    /// Nothing is changed, and Inlet need not be up. Below each rule stand the packets that would get another answer.
    /// Warnings come last: that `apply` will refuse the file, prefixes that are not local, services without sockets,
    /// and what each listener loses.
    Plan(Plan),
    /// Replace the whole ruleset by a file
    ///
    /// The new ruleset is in force in one step, or nothing is changed. The file is TOML or JSON. If its name ends in
    /// neither .toml nor .json, it is JSON when it starts with a brace. All errors of the file, and of the files that
    /// it includes, are shown at once.
    Apply(Apply),
    /// Keep the ruleset that `apply --confirm` put in force
    Confirm,
    /// Put the previous ruleset in force
    ///
    /// A second rollback goes forward again. If the ruleset in force waits for confirmation, the one before it comes
    /// back.
    Rollback(Rollback),
    /// Wait for confirmation in the background; `inlet apply --confirm` starts it
    #[command(hide = true)]
    AwaitConfirmation,
    /// Write the ruleset in force as a file for `apply`
    ///
    /// JSON unless --toml is given. It has one rule a line, so that two exports can be compared.
    Export(Export),
    /// Translate the rules of another tool into a ruleset file
    #[command(subcommand)]
    Import(Import),
    /// Show the instance, its services, their sockets and counters
    Status,
    /// List services, one a line
    Services,
    /// List rules in match order: the first that matches decides
    ///
    /// On a terminal, rules that differ only in prefix or ports share lines where the order allows it. In a pipe each
    /// rule has its line.
    Rules(Rules),
    /// List what each socket and each service receives
    ///
    /// These are all TCP listeners and unconnected UDP sockets of the namespace. A socket receives what it is bound to,
    /// less what rules take away, and what rules give to its service. Prefixes and ports with the same answer are
    /// joined. In a pipe lines have up to 120 columns.
    Listeners,
    /// Show who receives a packet, and why
    ///
    /// Shows whether the address is local, which rule decides and which socket receives the packet. It asks the routes,
    /// the rules, the kernel's list of sockets and, where possible, the program in the kernel. Counters do not change.
    /// With --file, services have the sockets that they would have once the file is applied.
    Explain(Explain),
    /// Check the host, the rules, the services and the sockets
    ///
    /// Each finding says what is wrong, why it matters and how to fix it. Nothing is changed. That Inlet is not up is
    /// an error, unless a file is given. Without root the check does what it can, and lists what it could not look at.
    Check(Check),
    /// Write completions for a shell to standard output
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages to a directory
    ///
    /// Commands go to man1 and inlet.toml(5) to man5 below it, as man(1) wants them.
    Man {
        /// The directory, made if it is missing
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// A group whose members may look without root: at rules, services and counters
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,

    /// The most sockets that all services together can have [default: 16384]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(UpOptions::MAX_SOCKETS)))]
    pub(crate) max_sockets: Option<u32>,

    /// How many flows over UDP are kept, for answers and for services that are sticky [default: 65536]
    ///
    /// Where Inlet is up, it changes that. Flows that are known stay known as far as they fit.
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(i64::from(UpOptions::MIN_FLOWS)..=i64::from(UpOptions::MAX_FLOWS)))]
    pub(crate) max_flows: Option<u32>,

    /// The ports that programs with own binds get, which nobody else can bind while there are such
    /// [default: 61000-64999]
    #[arg(long, value_name = "FIRST-LAST")]
    pub(crate) own_ports: Option<PortRange>,

    /// In every network namespace where it is up already, as after an upgrade
    #[arg(long, conflicts_with_all = ["netns", "group", "max_sockets", "max_flows", "own_ports"])]
    pub(crate) all: bool,
}

/// A shell that completions can be written for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}
