//! The commands that translate the rules of other tools.

use std::path::Path;

use inlet::Listeners;
use inlet_import::{
    ImportError, Listener, Surroundings, listeners, local_prefixes, receivers, routed_prefixes, tproxy, tubular,
};

use super::{location, source};
use crate::args::{Cli, Import};
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn import(cli: &Cli, args: &Import, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let imported = match args {
        Import::Tubular { file } => read(file, tubular)?,
        Import::Tproxy { file, ipset, sockets, elsewhere } => {
            let sets = ipset.as_deref().map(source).transpose()?;
            let (listeners, interfaces) = match sockets {
                Some(file) => (Some(read(file, listeners)?), None),
                None if *elsewhere => (None, None),
                None => (Some(listening(cli)?), Some(location(cli)?.netns().interfaces()?)),
            };
            let sets = sets.map(|sets| sets.text.to_string()).unwrap_or_default();
            let around = Surroundings { sets, listeners, interfaces };
            read(file, |text| tproxy(text, &around))?
        }
        Import::Ss { sockets, routes } => {
            let listening = match sockets {
                Some(file) => read(file, listeners)?,
                None => listening(cli)?,
            };
            let prefixes = match routes {
                Some(file) => routed_prefixes(&source(file)?.text),
                None if cli.netns.is_some() => return Err(Failure::Value("--netns", OTHER_ROUTES.into())),
                None => local_prefixes(&routes_of("fib_trie")?, &routes_of("ipv6_route")?),
            };
            receivers(&listening, &prefixes)
        }
    };
    render::imported(screen, &imported)?;
    if imported.left.is_empty() { Ok(()) } else { Err(Failure::Untranslated(imported.left)) }
}

const OTHER_ROUTES: &str =
    "the routes of another namespace are not read; give --sockets and --routes, or run import in it";

fn read<T>(file: &Path, translate: impl FnOnce(&str) -> Result<T, ImportError>) -> Result<T, Failure> {
    let source = source(file)?;
    translate(&source.text).map_err(|error| Failure::Import(source.name, error))
}

/// The listeners of the namespace.
fn listening(cli: &Cli) -> Result<Vec<Listener>, Failure> {
    let found = Listeners::of(&location(cli)?, None)?;
    let listener = |listener: &inlet::Listener| Listener {
        protocol: listener.bound.protocol,
        addr: listener.bound.addr.ip().to_canonical(),
        port: listener.bound.addr.port(),
        v6only: listener.bound.v6only,
        transparent: listener.transparent,
        program: listener.socket.owners.first().map(|owner| owner.command.clone()),
    };
    Ok(found.listeners.iter().map(listener).collect())
}

/// A table of routes of the thread's namespace.
fn routes_of(table: &str) -> inlet::Result<String> {
    let path = format!("/proc/thread-self/net/{table}");
    match std::fs::read_to_string(&path) {
        // A kernel without IPv6 has no such file.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(cause) => Err(inlet::Error::Os { operation: "read", object: path, cause }),
        Ok(text) => Ok(text),
    }
}
