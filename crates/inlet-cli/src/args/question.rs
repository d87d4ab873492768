//! The arguments of commands that ask.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use inlet::rules::{InterfaceName, PortRange, Protocol};

use crate::values::{AddrPort, MarkValue, PrefixFilter, ProtocolFilter};

#[derive(Args, Debug)]
pub(crate) struct Rules {
    /// Rules for this protocol: tcp, udp or any
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) protocol: ProtocolFilter,

    /// Rules whose local prefix contains this one or is inside it; any for all
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) prefix: PrefixFilter,

    /// Rules for this port, or for a port of this range
    #[arg(default_value = "any", hide_default_value = true)]
    pub(crate) port: PortRange,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Check the rules of this file instead of those in force; - reads standard input
    #[arg(conflicts_with = "in_force")]
    pub(crate) file: Option<PathBuf>,

    /// Also find out whether the ruleset of this file is in force; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) in_force: Option<PathBuf>,

    /// Report errors and warnings only: no output means that there are none
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Leave findings of this kind out, such as rp-filter; may be repeated
    #[arg(long, value_name = "CODE", value_parser = PossibleValuesParser::new(inlet::CODES),
        hide_possible_values = true)]
    pub(crate) ignore: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The protocol: tcp or udp
    pub(crate) protocol: Protocol,

    /// The destination: 192.0.2.7:80 or `[2001:db8::7]:80`
    #[arg(value_name = "DST:PORT")]
    pub(crate) to: AddrPort,

    /// The source of the packet [default: 0.0.0.0:0 or `[::]:0`]
    #[arg(long, value_name = "SRC:PORT")]
    pub(crate) from: Option<AddrPort>,

    /// The interface on which the packet comes in [default: none]
    #[arg(long, value_name = "NAME")]
    pub(crate) iface: Option<InterfaceName>,

    /// The mark that the firewall gives the packet [default: 0]
    #[arg(long, value_name = "VALUE")]
    pub(crate) mark: Option<MarkValue>,

    /// Use the rules of this file, as if it were in force; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
