//! Commands about an instance as a whole: its beginning and end, what it holds.

use inlet::{Instance, UpOptions};

use super::{location, reader};
use crate::args::{Cli, Up};
use crate::failure::{self, Failure};
use crate::render::{self, Overview, Place, Screen};

pub(super) fn up(cli: &Cli, args: &Up, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let location = location(cli)?;
    let place = Place::of(&location);
    let options = UpOptions {
        group: args.group.clone(),
        max_sockets: args.max_sockets.unwrap_or(UpOptions::default().max_sockets),
        max_flows: args.max_flows.unwrap_or(UpOptions::default().max_flows),
        own_ports: args.own_ports.unwrap_or(UpOptions::default().own_ports),
    };
    let (mut instance, made) = Instance::up_or_open(location, &options)?;
    if let Some(max_flows) = args.max_flows {
        instance.set_max_flows(max_flows)?;
    }
    let generation = instance.generation();
    // What was not asked for may be otherwise.
    let max_sockets = args.max_sockets.unwrap_or(instance.max_sockets());
    let own_ports = args.own_ports.or(instance.own_ports()).unwrap_or(options.own_ports);
    let options = UpOptions { max_sockets, own_ports, ..options };
    let others = instance.differs_from(&options)?;
    drop(instance);
    if !others.is_empty() {
        let text = format!("inlet was up before with other options, and keeps them: {}", others.join(", "));
        failure::note(&text, Some("inlet down, then inlet up with the options; then apply the rules again".to_owned()));
    }
    render::up(screen, &place, generation, made)
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
        hook: snapshot.hook()?,
        pending: snapshot.pending()?,
        rules: snapshot.ruleset().len(),
        keeps_routes: snapshot.keeps_routes(),
        max_sockets: snapshot.max_sockets(),
        passed,
        refused,
        answers: snapshot.answers()?,
        stays: snapshot.stays()?,
        client_answers: snapshot.client_answers()?,
        own_ports: snapshot.own_ports()?,
        is_watched: snapshot.is_watched()?,
        services: snapshot.services()?,
    };
    let steering = snapshot.require_steering();
    drop(snapshot);
    render::status(screen, &overview)?;
    Ok(steering?)
}

pub(super) fn services(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let services = reader(cli)?.services()?;
    render::services(screen, &services)
}
