//! Changes that are granted: the process that makes them, and asking it when the rights for more are missing.

use std::path::PathBuf;
use std::time::Duration;

use inlet::rules::{ServiceName, Target};
use inlet::{
    Ask, DEFAULT_GRANTD, Edit, all_sockets_of_process, ask_grantd, lacks_rights, listen_for_requests,
    listener_from_systemd, serve_grants, sockets_of_process, sockets_of_systemd,
};

use super::location;
use crate::args::{Cli, Grantd, Register};
use crate::failure::{self, Failure};
use crate::render::{self, Screen};

/// Names the socket in the place of the usual one, for hosts that have several.
const VARIABLE: &str = "INLET_GRANTD";

/// Runs until a signal ends it, or nobody asks any more; it holds nothing.
pub(super) fn grantd(cli: &Cli, args: &Grantd) -> Result<(), Failure> {
    let location = location(cli)?;
    let listener = match &args.socket {
        Some(path) => listen_for_requests(path)?,
        None => listener_from_systemd()?,
    };
    let log: fn(&str) = |line| failure::log(line);
    Ok(serve_grants(&listener, &location, args.idle.map(Duration::from_secs), log)?)
}

/// Where to ask, when this process cannot change anything itself and somebody is there who can.
fn server() -> Option<PathBuf> {
    let path = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_GRANTD), PathBuf::from);
    (lacks_rights() && path.exists()).then_some(path)
}

/// Has a change of rules made by the server. `None`: do it here.
pub(super) fn edit(change: &Edit, screen: &mut Screen<'_>) -> Option<Result<(), Failure>> {
    let ask = match change {
        Edit::Bind(Target::Service(service), selector) => Ask::Bind(service.clone(), selector.clone()),
        // The service that is named after the address; whoever may use it says so by a grant.
        Edit::BindTo(listen, selector) => Ask::Bind(listen.to_string().parse().ok()?, selector.clone()),
        Edit::Unbind(selector) => Ask::Unbind(selector.clone()),
        _ => return None,
    };
    let path = server()?;
    Some(ask_grantd(&path, &ask, &[]).map_err(Failure::from).and_then(|done| render::granted(screen, &done)))
}

/// Has the sockets of a process taken out by the server. `None`: do it here.
pub(super) fn unregister(
    cli: &Cli,
    service: &ServiceName,
    pid: Option<u32>,
    screen: &mut Screen<'_>,
) -> Option<Result<(), Failure>> {
    // All sockets of a service are not the caller's alone.
    let (pid, path) = (pid?, server()?);
    let ask = || -> inlet::Result<inlet::Done> {
        let sockets = all_sockets_of_process(&location(cli)?, service.as_str(), pid)?;
        ask_grantd(&path, &Ask::Unregister(service.clone()), &sockets)
    };
    Some(ask().map_err(Failure::from).and_then(|done| render::granted(screen, &done)))
}

/// Has sockets registered by the server. `None`: do it here.
pub(super) fn register(
    cli: &Cli,
    args: &Register,
    pid: Option<u32>,
    screen: &mut Screen<'_>,
) -> Option<Result<(), Failure>> {
    let path = server()?;
    let ask = || -> inlet::Result<inlet::Done> {
        let (location, service) = (location(cli)?, args.service.as_str());
        let sockets = match pid {
            Some(pid) => sockets_of_process(&location, service, pid, &args.listen)?,
            None => sockets_of_systemd(&location, service, &args.listen)?,
        };
        ask_grantd(&path, &Ask::Register(args.service.clone()), &sockets)
    };
    Some(ask().map_err(Failure::from).and_then(|done| render::granted(screen, &done)))
}
