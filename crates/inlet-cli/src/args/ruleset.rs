//! The arguments of commands that are about a whole ruleset.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The longest time to wait for confirmation: a week, in seconds.
const MAX_CONFIRM: u64 = 7 * 24 * 60 * 60;

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// The file; - reads standard input
    pub(crate) file: PathBuf,

    /// Show all changes and all packets, however many there are
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Do it even if SSH or the listener of this session loses packets
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Go back to the previous ruleset after this time, unless `inlet confirm` is run before
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_CONFIRM))]
    pub(crate) confirm: Option<u64>,

    /// Do it even if SSH or the listener of this session loses packets
    #[arg(long)]
    pub(crate) force: bool,

    /// The file; - reads standard input
    pub(crate) file: PathBuf,

    /// Also when comments of the file say that something has to be decided (TODO)
    #[arg(long)]
    pub(crate) ignore_todo: bool,

    /// Units, control groups and users that services name may be missing yet
    #[arg(long)]
    pub(crate) later: bool,

    /// Keep local routes for the prefixes of rules, as `routes = "manage"` in the file does
    #[arg(long)]
    pub(crate) routes: bool,

    /// For the boot: start Inlet first if it is not up, and fall back on the last good ruleset
    ///
    /// If the file cannot be applied and no other ruleset is in force, the last good one comes into force: the one that
    /// was applied and confirmed last before the boot. The command fails all the same, and says why.
    #[arg(long)]
    pub(crate) up: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Translate the bindings of tubular
    ///
    /// The file is the one that `tubectl load-bindings` reads. Labels become services. Give them their sockets with
    /// `inlet register`, or describe the sockets in the file.
    Tubular {
        /// The file; - reads standard input
        #[arg(default_value = "-", hide_default_value = true)]
        file: PathBuf,
    },
    /// Translate TPROXY rules of iptables or nftables
    ///
    /// Reads what `iptables-save` and `ip6tables-save`, or `nft -j list ruleset`, write. Each address and port to which
    /// TPROXY sends packets becomes a service that describes its sockets. Rules about sockets (-m socket, socket
    /// transparent) need the listeners of the host that the rules come from. Those of this namespace are looked up,
    /// unless --sockets or --elsewhere is given. What a ruleset cannot express is listed on standard error and in
    /// comments, with the reason; the status is 3 then. The file never steers more than the firewall did.
    Tproxy {
        /// The file; - reads standard input
        #[arg(default_value = "-", hide_default_value = true)]
        file: PathBuf,

        /// The output of `ipset save`, if it is not in FILE
        #[arg(long, value_name = "FILE")]
        ipset: Option<PathBuf>,

        /// What `ss -lntup` wrote on the host that the rules come from
        #[arg(long, value_name = "FILE")]
        sockets: Option<PathBuf>,

        /// The rules come from another host: look up no sockets here
        #[arg(long, conflicts_with = "sockets")]
        elsewhere: bool,
    },
    /// Make a first ruleset of what receives on this host today
    ///
    /// Each program that listens on all addresses becomes a service, with rules for the prefixes that are local as a
    /// whole
    /// (AnyIP). Nothing changes when it is applied: it is a file to edit.
    Ss {
        /// What `ss -lntup` wrote on the host [default: the listeners of this namespace]
        #[arg(long, value_name = "FILE", requires = "routes")]
        sockets: Option<PathBuf>,

        /// What `ip route show table local` and `ip -6 route show table local` wrote there
        #[arg(long, value_name = "FILE", requires = "sockets")]
        routes: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write TOML instead of JSON
    #[arg(long, conflicts_with = "json")]
    pub(crate) toml: bool,
}
