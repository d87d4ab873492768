//! Commands about an instance as a whole: its beginning and end, what it holds.

use inlet::{Instance, UpOptions};

use super::{location, reader};
use crate::args::{Cli, Up};
use crate::failure::Failure;
use crate::render::{self, Overview, Place, Screen};

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
        pending: snapshot.pending()?,
        rules: snapshot.ruleset().len(),
        keeps_routes: snapshot.keeps_routes(),
        max_sockets: snapshot.max_sockets(),
        passed,
        refused,
        answers: snapshot.answers()?,
        is_watched: snapshot.is_watched()?,
        services: snapshot.services()?,
    };
    drop(snapshot);
    render::status(screen, &overview)
}

pub(super) fn services(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let services = reader(cli)?.services()?;
    render::services(screen, &services)
}
