//! The instances of all network namespaces.

use std::path::Path;

use inlet::{Listed, Unfinished};
use serde::Serialize;

use super::Screen;
use super::table::Table;
use crate::failure::Failure;

#[derive(Serialize)]
struct Instance<'a> {
    /// For `--netns`; `null` for the namespace of the command, and for one that cannot be found.
    netns: Option<&'a str>,
    state: &'static str,
    cookie: u64,
    format: Option<u32>,
    directory: &'a Path,
}

impl<'a> Instance<'a> {
    fn of(instance: &'a Listed) -> Self {
        let Listed { cookie, directory, netns, format, .. } = instance;
        Self { netns: netns.as_deref(), state: state(instance), cookie: *cookie, format: *format, directory }
    }
}

/// What is to be said of an instance: who may be reached, and whether it does anything.
fn state(instance: &Listed) -> &'static str {
    match (instance.unfinished, instance.steers, &instance.location) {
        (None, true, Some(_)) => "up",
        (None, true, None) => "up, not found",
        (None, false, Some(_)) => "detached",
        (None, false, None) => "ended",
        (Some(Unfinished::Up), ..) => "half made",
        (Some(Unfinished::Down), ..) => "half removed",
        (Some(Unfinished::Takeover), ..) => "half taken over",
    }
}

/// Lists them, and nothing when there are none.
pub(crate) fn instances(screen: &mut Screen<'_>, instances: &[Listed]) -> Result<(), Failure> {
    if screen.json {
        return screen.document(&instances.iter().map(Instance::of).collect::<Vec<_>>());
    }
    if instances.is_empty() {
        return Ok(());
    }
    let mut table = Table::headed(&["NETNS", "STATE", "FORMAT", "DIRECTORY"]);
    for instance in instances {
        let unfound = || if instance.location.is_some() { "(this one)" } else { "-" }.to_owned();
        table.row([
            instance.netns.clone().unwrap_or_else(unfound),
            state(instance).to_owned(),
            instance.format.map_or_else(|| "?".to_owned(), |format| format.to_string()),
            instance.directory.display().to_string(),
        ]);
    }
    table.write(screen, 0)
}
