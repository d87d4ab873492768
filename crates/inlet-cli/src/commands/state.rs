//! Commands about an instance as a whole: its beginning and end, what it holds, what it would do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet::core::{InterfaceName, Packet};
use inlet::{Error, Instance, Location, UpOptions};

use super::{location, reader};
use crate::args::{Cli, Explain, Up};
use crate::failure::Failure;
use crate::render::{self, Overview, Place, Question, Screen};

pub(super) fn up(cli: &Cli, args: &Up, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let location = location(cli)?;
    let place = Place::of(&location);
    let options = UpOptions { group: args.group.clone(), max_sockets: args.max_sockets };
    let generation = Instance::up(location, &options)?.generation();
    render::up(screen, &place, generation)
}

pub(super) fn down(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let location = location(cli)?;
    Instance::down(&location)?;
    render::down(screen, &Place::of(&location))
}

pub(super) fn status(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let snapshot = reader(cli)?;
    let (passed, refused) = snapshot.plain_counters()?;
    let overview = Overview {
        place: Place::of(snapshot.location()),
        generation: snapshot.generation(),
        rules: snapshot.ruleset().len(),
        max_sockets: snapshot.max_sockets(),
        passed,
        refused,
        services: snapshot.services()?,
    };
    drop(snapshot);
    render::status(screen, &overview)
}

pub(super) fn services(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let services = reader(cli)?.services()?;
    render::services(screen, &services)
}

pub(super) fn explain(cli: &Cli, args: &Explain, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let local = args.to.0;
    let remote = args.from.map_or_else(|| unspecified(local), |from| from.0);
    if remote.is_ipv4() != local.is_ipv4() {
        let message = format!("{remote} and {local} are of two families; no packet has both");
        return Err(Failure::Value("--from <SRC:PORT>", message.into()));
    }
    if local.port() == 0 {
        return Err(Failure::Value("<DST:PORT>", "no packet goes to port 0; ports go from 1 to 65535".into()));
    }
    let snapshot = reader(cli)?;
    let ifindex = match &args.iface {
        Some(name) => interface(snapshot.location(), name)?,
        None => 0,
    };
    let explanation = snapshot.explain(&Packet { protocol: args.protocol, local, remote, ifindex })?;
    let ruleset = snapshot.ruleset().clone();
    drop(snapshot);
    let question = Question { from: args.from.is_some(), iface: args.iface.as_ref() };
    render::explanation(screen, &question, &ruleset, &explanation)
}

fn interface(location: &Location, name: &InterfaceName) -> Result<u32, Error> {
    let netns = location.netns();
    let unknown = || Error::UnknownInterface { name: name.to_string(), netns: netns.label().to_owned() };
    netns.interface_index(name)?.ok_or_else(unknown)
}

/// Where a packet comes from when nobody says: the unspecified address, which no source prefix but /0 holds.
fn unspecified(local: SocketAddr) -> SocketAddr {
    let addr: IpAddr = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(addr, 0)
}
