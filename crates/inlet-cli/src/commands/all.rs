//! Commands about the instances of all network namespaces.

use inlet::{Instance, Listed, UpOptions};

use crate::args::Cli;
use crate::failure::{self, Failure};
use crate::render::{self, Screen};

pub(super) fn list(cli: &Cli, all: bool, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut found = inlet::list(&cli.bpffs)?;
    found.retain(|instance| all || !instance.has_ended() && instance.unfinished.is_none());
    render::instances(screen, &found)
}

/// Takes over what an earlier version made, and finishes what was interrupted.
pub(super) fn up(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    each(inlet::list(&cli.bpffs)?, screen, |instance| {
        if instance.unfinished.is_some() {
            return instance.remove();
        }
        let Some(location) = &instance.location else { return Ok(instance.format == Some(Listed::FORMAT)) };
        Instance::up_or_open(location.clone(), &UpOptions::default()).map(|_| true)
    })
}

pub(super) fn down(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    each(inlet::list(&cli.bpffs)?, screen, |instance| match &instance.location {
        Some(location) if instance.unfinished.is_none() => Instance::down(location).map(|()| true),
        _ => instance.remove(),
    })
}

pub(super) fn gc(cli: &Cli, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut found = inlet::list(&cli.bpffs)?;
    found.retain(|instance| instance.has_ended() || instance.unfinished.is_some());
    each(found, screen, Listed::remove)
}

/// Does it to every instance, also when it fails for one, and then says for which it was done. `false`: the namespace
/// cannot be found.
fn each(
    found: Vec<Listed>,
    screen: &mut Screen<'_>,
    act: impl Fn(&Listed) -> inlet::Result<bool>,
) -> Result<(), Failure> {
    let (mut done, mut failed) = (Vec::new(), false);
    for instance in found {
        match act(&instance) {
            Ok(true) => done.push(instance),
            Ok(false) => {
                failed = true;
                failure::without_namespace(&instance.directory);
            }
            Err(error) => {
                failed = true;
                failure::of(&instance.directory, &error);
            }
        }
    }
    render::instances(screen, &done)?;
    if failed { Err(Failure::Found) } else { Ok(()) }
}
