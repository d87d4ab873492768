//! One function for each command: a request, one call of the library, what it gave to the renderer.
//!
//! An instance or a snapshot is closed before anything is written: a pager that waits for a key must not hold its lock.

mod docs;
mod explain;
mod rules;
mod sockets;
mod state;

use inlet::{Instance, Location, Netns, Snapshot};

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::render::Screen;

pub(crate) fn run(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match &cli.command {
        Command::Up(args) => state::up(cli, args, screen),
        Command::Down => state::down(cli, screen),
        Command::Bind(args) => rules::bind(cli, args, screen),
        Command::Unbind(args) => rules::unbind(cli, args, screen),
        Command::Service(args) => rules::service(cli, args, screen),
        Command::Register(args) => sockets::register(cli, args, screen),
        Command::Unregister(args) => sockets::unregister(cli, args, screen),
        Command::Apply(args) => rules::apply(cli, args, screen),
        Command::Export => rules::export(cli, screen),
        Command::Status => state::status(cli, screen),
        Command::Rules(args) => rules::list(cli, args, screen),
        Command::Services => state::services(cli, screen),
        Command::Explain(args) => explain::explain(cli, args, screen),
        Command::Completions { shell } => docs::completions(*shell, screen),
        Command::Man { dir } => docs::man(dir),
    }
}

fn location(cli: &Cli) -> inlet::Result<Location> {
    let netns = match &cli.netns {
        Some(spec) => Netns::open(spec)?,
        None => Netns::own()?,
    };
    Ok(Location::new(&cli.bpffs, netns))
}

fn writer(cli: &Cli) -> inlet::Result<Instance> {
    Instance::open(location(cli)?)
}

fn reader(cli: &Cli) -> inlet::Result<Snapshot> {
    Snapshot::open(location(cli)?)
}
