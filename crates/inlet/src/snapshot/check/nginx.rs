//! nginx. It takes `$server_addr` and `$server_port` from a listener that is bound to one address, and asks the connection
//! (getsockname) only where it listens on all.

use inlet_core::{Area, Prefix, Protocol, given};

use super::sockets::describe;
use super::{Checkup, Finding, Severity, Subject};
use crate::socket::SocketState;

/// Listeners of nginx at one address that rules give connections to other addresses or ports.
pub(super) fn check(subject: &Subject<'_>, found: &mut Checkup) {
    let mut listeners: Vec<SocketState> = Vec::new();
    for (id, service) in subject.ruleset.services().iter() {
        let claims = given(subject.ruleset, id);
        let areas = || claims.iter().map(|claim| claim.area).filter(|it| it.protocol == Protocol::Tcp);
        let is_asked_elsewhere = |socket: &SocketState| {
            let bound = socket.local.filter(|local| local.protocol() == Protocol::Tcp).map(|local| local.addr());
            bound.filter(|it| !it.ip().is_unspecified()).is_some_and(|bound| {
                let elsewhere = |area: &Area| {
                    let one = area.ports.width() == 1 && area.ports.contains(bound.port());
                    !one || area.local != Prefix::from(bound.ip().to_canonical())
                };
                areas().any(|area| elsewhere(&area))
            })
        };
        let of_nginx = |socket: &SocketState| socket.owners.iter().any(|owner| owner.command == "nginx");
        let states = subject.receivers.states(service);
        listeners.extend(states.into_iter().filter(|it| it.receiving && of_nginx(it) && is_asked_elsewhere(it)));
    }
    found.add_each(&listeners, |socket| {
        let port = socket.local.map_or(0, |local| local.addr().port());
        Finding {
            severity: Severity::Note,
            code: "nginx-listens-at-one-address",
            what: format!("{} is asked at other addresses or ports than its own", describe(socket)),
            why: "nginx takes $server_addr and $server_port from a listener of one address, not from the connection"
                .to_owned(),
            fix: format!("where these variables matter: `listen {port};` in nginx, and --listen 'tcp:*:{port}' here"),
        }
    });
}
