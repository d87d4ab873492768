//! The arguments, their help texts, and from them the completions and the man pages. Nothing is done here.

mod question;
mod rule;
mod ruleset;
mod service;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inlet::UpOptions;
use inlet::core::ServiceName;

pub(crate) use self::question::{Check, Explain, Rules};
pub(crate) use self::rule::{Bind, Match};
pub(crate) use self::ruleset::{Apply, Export, Import, Plan, Rollback};
pub(crate) use self::service::{Register, Run, Service, SetService, Unregister};

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
