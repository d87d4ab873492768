//! What every socket of a namespace receives once the rules are in force, and what every service.

use std::collections::HashMap;

use inlet_core::{Area, Bound, Claim, Protocol, Ruleset, Service, ServiceId, ServiceName, given, kept};

use super::{Drained, Receivers, Snapshot};
use crate::error::Result;
use crate::socket::{Device, Listed, SocketState};
use crate::state::Location;

/// A TCP listener or an unconnected UDP socket of a namespace, or a socket of a service that receives nothing.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The socket.
    pub socket: SocketState,
    /// What it is bound to.
    pub bound: Bound,
    /// Whether it has `IP_TRANSPARENT`; `None` on kernels that do not say.
    pub transparent: Option<bool>,
    /// What it keeps of that. Empty: it receives nothing by its own address any more.
    pub kept: Vec<Claim>,
    /// Whether answers to what it sent pass the rules that take what else comes to it.
    pub answers_pass: bool,
    /// The service that it is in.
    pub service: Option<ServiceName>,
    /// What is left on it, when it is being drained: it is in no service.
    pub drained: Option<Drained>,
}

/// What rules give to a service.
#[derive(Clone, Debug)]
pub struct ServiceTraffic {
    /// Its name.
    pub name: ServiceName,
    /// How many live sockets it has.
    pub sockets: usize,
    /// How many of them receive: a connected one does not.
    pub receiving: usize,
    /// What it receives, when it has a live socket for it.
    pub given: Vec<Claim>,
    /// The interfaces that all of its live sockets are bound to: nothing that comes in elsewhere is received. Empty when one is
    /// bound to none.
    pub only_on: Vec<Device>,
}

/// Who receives what in a namespace.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// All listeners and unconnected UDP sockets, and what services have besides, in order of protocol and address.
    pub listeners: Vec<Listener>,
    /// All services, by name.
    pub services: Vec<ServiceTraffic>,
}

impl Listeners {
    /// Asks the kernel for the sockets of a namespace, and the rules for what becomes of them. Without an instance
    /// there are no rules.
    ///
    /// # Errors
    /// Those of listing sockets and of reading the maps.
    pub fn of(location: &Location, snapshot: Option<&Snapshot>) -> Result<Self> {
        let Some(snapshot) = snapshot else {
            let receivers = Receivers::of(location.netns(), None)?;
            return Ok(Self { listeners: listeners(&Ruleset::empty(), &receivers, false), services: Vec::new() });
        };
        let (ruleset, receivers) = (snapshot.ruleset(), snapshot.receivers()?);
        let traffic = |(id, service): (ServiceId, &Service)| ServiceTraffic {
            name: service.name.clone(),
            sockets: receivers.count(service),
            receiving: receivers.states(service).iter().filter(|socket| socket.receiving).count(),
            given: given(ruleset, id),
            only_on: only_on(&receivers.states(service)),
        };
        let mut listeners = listeners(ruleset, &receivers, snapshot.passes_clients()?);
        for drained in snapshot.drained_among(&receivers)? {
            if let Some(listener) = listeners.iter_mut().find(|it| it.socket.cookie == drained.socket.cookie) {
                listener.drained = Some(drained);
            }
        }
        listeners.extend(silent(ruleset, &receivers));
        listeners.sort_by_key(|listener| (listener.bound, listener.socket.cookie));
        Ok(Self { listeners, services: ruleset.services().iter().map(traffic).collect() })
    }
}

/// The interfaces that all of these sockets are bound to.
fn only_on(sockets: &[SocketState]) -> Vec<Device> {
    let devices: Option<Vec<Device>> =
        sockets.iter().filter(|socket| socket.receiving).map(|socket| socket.device.clone()).collect();
    let mut devices = devices.unwrap_or_default();
    devices.sort_by_key(|device| device.index);
    devices.dedup();
    devices
}

/// The sockets of services that receive nothing.
fn silent(ruleset: &Ruleset, receivers: &Receivers) -> Vec<Listener> {
    let mut silent = Vec::new();
    for (_, service) in ruleset.services().iter() {
        for socket in receivers.states(service).into_iter().filter(|socket| !socket.receiving) {
            let Some(listed) = receivers.sockets.get(socket.cookie) else { continue };
            let (bound, transparent) = (listed.bound, listed.transparent);
            let service = Some(service.name.clone());
            let (kept, answers_pass, drained) = (Vec::new(), false, None);
            silent.push(Listener { socket, bound, transparent, kept, answers_pass, service, drained });
        }
    }
    silent
}

/// Whether what comes to these areas is left to a socket whole.
pub(super) fn keeps_all(bound: &Bound, kept: &[Claim]) -> bool {
    let is_kept = |area: &Area| kept.iter().any(|claim| claim.area.covers(area) && claim.except.is_empty());
    bound.areas().iter().all(is_kept)
}

/// All sockets that receive, with what they keep. `passes_clients`: whether answers to clients of the host pass.
pub(super) fn listeners(ruleset: &Ruleset, receivers: &Receivers, passes_clients: bool) -> Vec<Listener> {
    let of_clients = if passes_clients { ruleset.ports_of_clients() } else { Vec::new() };
    // A socket without a port waits for nothing.
    let all: Vec<Listed> = receivers.sockets.receiving().into_iter().filter(|it| it.bound.addr.port() != 0).collect();
    let mut by_port: HashMap<(Protocol, u16), Vec<Bound>> = HashMap::new();
    for listed in all.iter().filter(|it| it.own_port.is_none()) {
        by_port.entry((listed.bound.protocol, listed.bound.addr.port())).or_default().push(listed.bound);
    }
    let listener = |it: &Listed| {
        let others = by_port.get(&(it.bound.protocol, it.bound.addr.port())).map_or(&[][..], Vec::as_slice);
        let service = receivers.owner(ruleset, it.cookie);
        let kept = match it.own_port {
            // Nothing but rules leads there.
            Some(_) => Vec::new(),
            None => kept(ruleset, &it.bound, others, |rule| receivers.takes(ruleset, rule)),
        };
        let answers_pass = service.is_none() && !keeps_all(&it.bound, &kept) && it.is_client(&of_clients);
        Listener {
            socket: receivers.sockets.describe_listed(it),
            bound: it.bound,
            transparent: it.transparent,
            kept,
            answers_pass,
            service: service.map(|service| service.name.clone()),
            drained: None,
        }
    };
    all.iter().map(listener).collect()
}
